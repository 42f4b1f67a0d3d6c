"""Sources follow the targets: one is open in each network namespace of a target, as long as it is one.

The follower scans all processes again and again, and the kernel's notifications cause scans in between. Before a
namespace is captured in, it is asked for its own addresses (`tapper.follow.decision`). A source is closed only on
evidence: the processes by which it was found ended, or a scan read them and they lead to a target no longer. A scan
that failed, or could not read everything, closes nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias, TypeVar

from tapper.capture import bpf
from tapper.capture.memory import RingMemory
from tapper.capture.ring import Ring, open_ring
from tapper.capture.sources import Sources
from tapper.capture.walk import Blocks
from tapper.discovery.finders import Candidate, Finder
from tapper.discovery.procfs import Procfs
from tapper.discovery.scanner import Scan, Scanner, made_unreadable, unexamined
from tapper.errors import NamespaceGoneError, TapperError
from tapper.follow import pace
from tapper.follow.decision import CaptureDecision, CaptureRules
from tapper.follow.events import KernelEvents
from tapper.follow.missing import MissingTargets
from tapper.namespaces.contents import tcp_connections
from tapper.namespaces.enter import Visit, run_inside, run_inside_each
from tapper.namespaces.identity import NamespaceId, own_namespace
from tapper.namespaces.privileges import check_following
from tapper.output.console import Console
from tapper.output.records import Place
from tapper.streams.connection import Scope
from tapper.targets.addresses import Address

T = TypeVar("T")

Add: TypeAlias = Callable[[NamespaceId, Ring, Place, Scope], None]

_TOGETHER = 64
"""Threads that open sources. They wait in the kernel rather than work."""
_MOST_FOREIGN_OF_ADDRESS = 4
_MOST_FOREIGN = 64
"""Sources in namespaces that processes of pods may have made: of one address, and in all."""
_PREFERENCE = {finder: rank for rank, finder in enumerate(Finder)}


@dataclass(slots=True)
class _Followed:
    """A namespace whose source is open, or is being drained."""

    decision: CaptureDecision
    pids: set[int] = field(default_factory=set)
    """The processes by which it was found, as of the last scan that found any."""


class Follower:
    """Opens sources by `add`, shuts them in `sources` when their processes have ended, and closes them by `drop` when
    they are no target's any longer."""

    def __init__(
        self,
        procfs: Procfs,
        sources: Sources[Any],
        console: Console,
        add: Add,
        drop: Callable[[NamespaceId], None],
        targets: frozenset[Address],
        *,
        finders: frozenset[Finder],
        verify: bool = False,
        memory: RingMemory | None = None,
        blocks: type[Blocks] = Blocks,
    ) -> None:
        self._procfs = procfs
        self._sources = sources
        self._console = console
        self._add = add
        self._drop = drop
        self._finders = finders
        self._memory = memory or RingMemory()
        self._blocks = blocks
        self._targets = targets
        self._scanner = Scanner(procfs, finders)
        self._rules = CaptureRules(procfs, console, verify=verify)
        self._missing = MissingTargets(procfs, console, finders)
        self._events = KernelEvents(sources, console)
        self._followed: dict[NamespaceId, _Followed] = {}
        self._waits_for_ends = False
        """Whether process ids mean the same in the procfs and here."""
        self._has_execs = False
        """Whether the kernel notifies of every program that begins."""
        self._last: Scan | None = None
        """The scan that was followed last; None where the same scan is to be followed again."""
        self._settled = False
        """Whether the last scan read everything, and all that it found is captured."""
        self._ended = 0.0
        """When the last look ended, by time.monotonic, and how long it took."""
        self._cost = 0.0
        self._early = 0.0
        """From when on to look again if the tapper is awake, by time.monotonic."""
        self.next_look = 0.0
        """When to wake up to look again, by time.monotonic."""

    # When to look.

    def begin(self) -> None:
        """The first look. Raises TapperError for what makes following impossible."""
        check_following(reads_environ=Finder.ENVOY in self._finders)
        # 1. Listen before the first scan, so that nothing is missed between the two.
        self._waits_for_ends = self._procfs.numbers_are_ours()
        if self._waits_for_ends:
            self._has_execs = self._events.watch_execs(self._programs_began)
        if self._finders != {Finder.ENVOY}:
            self._events.watch_addresses(self._addresses_given)
        # 2. Scan and follow.
        started = time.monotonic()
        scan = self._scanner.scan(self._targets)
        self._rules.shared = frozenset(filter(None, (own_namespace(), self._procfs.netns(1))))
        self._follow(scan)
        if scan.unreadable:
            self._console.warn(unexamined(scan))
        self._plan_next_look(started)

    def is_due(self) -> bool:
        """Whether to look now."""
        return time.monotonic() >= min(self._early, self.next_look)

    def look(self) -> bool:
        """Scan, and follow unless nothing has changed. Returns whether the scan succeeded."""
        started = time.monotonic()
        try:
            scan = self._scanner.scan(self._targets)
        except TapperError as error:
            self._console.warn_once(("scan", str(error)), f"{error}; what is open stays open")
            succeeded = False
        else:
            if scan is not self._last or not self._settled:
                self._follow(scan)
            succeeded = True
        self._plan_next_look(started)
        return succeeded

    def look_soon(self) -> None:
        """Look at once, and follow also an unchanged scan."""
        self._last = None
        self.next_look = time.monotonic()

    def retarget(self, targets: frozenset[Address]) -> None:
        """Follow other targets. Sources of former ones are dropped now; the next look finds the new ones."""
        self._targets = targets
        for netns, followed in list(self._followed.items()):
            if netns in self._sources and not followed.decision.addresses & targets:
                self._drop(netns)
        self._missing.keep(targets)
        self.look_soon()

    def release(self) -> None:
        """Close everything but the sources."""
        self._events.release()
        self._procfs.close()

    def _plan_next_look(self, started: float) -> None:
        now = time.monotonic()
        notified = self._settled and self._has_execs and Finder.NETNS not in self._finders
        under_way = self._scanner.execve_under_way
        early, late = pace.interval(now - started, notified=notified, execve_under_way=under_way)
        self._ended, self._cost, self._early, self.next_look = now, now - started, now + early, now + late

    def _look_after_event(self, pause: float = 2) -> None:
        """Look soon; the pause after the last look is at least so many times as long as that took, however many events
        there are."""
        self._last = None
        pause_s = min(pause * self._cost, pace.LONGEST_INTERVAL_S)
        self.next_look = min(self.next_look, max(time.monotonic(), self._ended + pause_s))

    def _process_ended(self, pid: int) -> None:
        self._scanner.cache.invalidate({pid})
        self._look_after_event()

    def _programs_began(self, pids: set[int] | None) -> None:
        self._scanner.cache.invalidate(pids)
        if pids is None:  # the look reads every process
            self._look_after_event(pace.SCAN_SHARE)
        elif any(map(self._is_worth_a_look, pids)):
            self._look_after_event()

    def _is_worth_a_look(self, pid: int) -> bool:
        """Whether the program that a process began is a proxy or replaces one, or may be a new pod's by `netns`."""
        exe = self._procfs.exe(pid)
        replaces = pid in self._events.waits_for_ends
        if replaces or any(finder.finds(exe) for finder in self._finders if finder is not Finder.NETNS):
            return True
        netns = self._procfs.netns(pid) if Finder.NETNS in self._finders else None
        return netns is not None and netns not in self._sources and self._rules.is_new(netns)

    def _addresses_given(self, addresses: set[Address] | None) -> None:
        if addresses is None or addresses & self._targets:
            self._rules.addresses.invalidate()
            self._look_after_event()

    # What is captured.

    def namespace_of(self, address: str) -> NamespaceId | None:
        """The captured namespace that has an address, in canonical spelling."""
        for netns, followed in self._followed.items():
            if netns in self._sources and address in map(str, followed.decision.owned):
                return netns
        return None

    def connections_in(self, netns: NamespaceId) -> frozenset[bytes] | None:
        """The open TCP connections of a captured namespace, by the keys of their packets; None where they cannot be
        listed."""
        try:
            return self._enter(netns, tcp_connections)
        except TapperError:
            return None

    def _enter(self, netns: NamespaceId, function: Callable[[], T]) -> T:
        """Call a function inside a captured namespace, by way of any of its processes. On any thread."""
        followed = self._followed.get(netns)
        pids = sorted(followed.pids) if followed is not None else ()
        return run_inside(map(self._procfs.namespace_path, pids), netns, function)

    def tcp_on_lo(self, netns: NamespaceId) -> int | None:
        """How many TCP packets passed the lo of a captured namespace, at least; None where that is not known."""
        followed = self._followed.get(netns)
        for pid in followed.pids if followed is not None else ():
            counted = self._procfs.tcp_on_lo(pid)
            if counted is not None and self._procfs.netns(pid) == netns:
                return counted
        return None

    # Following a scan.

    def _follow(self, scan: Scan) -> None:
        self._last = scan
        hostile = made_unreadable(scan)
        if hostile is not None:  # once in a run: a pod can make any number of such processes
            self._console.warn_once(made_unreadable, hostile)
        # 1. Group the candidates by namespace, the preferred ones first.
        groups: dict[NamespaceId, list[Candidate]] = {}
        for candidate in sorted(scan.candidates, key=lambda each: (_PREFERENCE[each.found_by], each.pid)):
            groups.setdefault(candidate.netns, []).append(candidate)
        # 2. Open sources in new namespaces of targets.
        self._rules.begin_scan(groups, self._sources)
        self._open([list(group) for netns, group in groups.items() if netns not in self._sources])
        # 3. Remember by which processes the captured namespaces were found, and wait for their ends.
        for netns, group in groups.items():
            if netns in self._sources:
                self._followed[netns].pids = {candidate.pid for candidate in group}
        if self._waits_for_ends:
            for candidate in scan.candidates:
                if candidate.netns in self._sources:
                    self._events.watch_end(candidate.pid, self._process_ended)
        # 4. Close the sources whose processes are certainly gone.
        for netns, followed in list(self._followed.items()):
            if netns not in self._sources:
                del self._followed[netns]
            elif netns not in groups and not any(self._may_be_alive(pid, scan) for pid in followed.pids):
                self._sources.shut(netns)
        # 5. Forget the ends of other processes; read the processes at each scan whose ends nobody reports.
        matched = {candidate.pid for candidate in scan.candidates if candidate.netns in self._sources}
        for pid in (self._events.waits_for_ends & scan.pids) - matched:
            self._events.forget_end(pid)
        known = {pid for followed in self._followed.values() for pid in followed.pids}
        self._scanner.cache.always_check = known - self._events.waits_for_ends
        # 6. Say of which targets nothing, or no plaintext, is captured.
        captured = {address for followed in self._followed.values() for address in followed.decision.owned}
        self._missing.say_missing(scan, self._targets, captured, self._rules.shared)
        decisions = [(netns, followed.decision) for netns, followed in self._followed.items()]
        without_proxy = {
            netns: min(decision.addresses, key=str)
            for netns, decision in decisions
            if decision.candidate.found_by is Finder.NETNS
        }
        self._missing.say_proxyless(scan, without_proxy)
        self._settled = not scan.unreadable and all(netns in self._sources for netns in groups)

    def _may_be_alive(self, pid: int, scan: Scan) -> bool:
        """Whether a former candidate may still be one: it could not be read, or lives although the scan missed it."""
        return pid in scan.unreadable or (pid in self._events.waits_for_ends and pid not in scan.pids)

    def _open(self, groups: list[list[Candidate]]) -> None:
        """Open a source in each namespace of a target, by the first of its candidates that succeeds. The kernel takes
        milliseconds for each source, so they are opened together."""
        while groups:
            decided = [self._rules.decide(group.pop(0), self._targets) for group in groups]
            decisions = self._within_quota([decision for decision in decided if decision is not None])
            rings = run_inside_each([self._visit(decision.candidate) for decision in decisions], _TOGETHER)
            for decision, ring in zip(decisions, rings, strict=True):
                self._take(decision, ring)
            groups = [group for group in groups if group and group[0].netns not in self._sources]

    def _within_quota(self, decisions: list[CaptureDecision]) -> list[CaptureDecision]:
        """The decisions without those on too many namespaces that pods may have made."""
        captured = [followed.decision for followed in self._followed.values()]
        taken = Counter(address for decision in captured if decision.foreign for address in decision.addresses)
        kept: list[CaptureDecision] = []
        for decision in decisions:
            address = decision.address
            if decision.foreign and (taken[address] >= _MOST_FOREIGN_OF_ADDRESS or taken.total() >= _MOST_FOREIGN):
                self._rules.warn(decision.candidate, address, "is not captured", "too many claim its address")
                continue
            taken[address] += decision.foreign
            kept.append(decision)
        return kept

    def _visit(self, candidate: Candidate) -> Visit[Ring]:
        netns = candidate.netns
        enter = partial(self._enter, netns)
        links = [self._procfs.namespace_path(candidate.pid)]
        return Visit(links, netns, lambda: open_ring("lo", bpf.program(), self._memory, enter, self._blocks))

    def _take(self, decision: CaptureDecision, ring: Ring | TapperError) -> None:
        """Add the source. A failure is named once, and costs the other namespaces nothing."""
        candidate, address, netns = decision.candidate, decision.address, decision.candidate.netns
        if isinstance(ring, TapperError):
            if not isinstance(ring, NamespaceGoneError):
                self._rules.warn(candidate, address, "is not captured", str(ring))
            return
        # The process id may have gone to another process before the ring was opened.
        exe = self._procfs.exe(candidate.pid)
        if not candidate.found_by.finds(exe) or self._procfs.netns(candidate.pid) != netns:
            ring.close()
            return
        if decision.doubt:
            self._rules.warn(candidate, address, "is captured unverified (--verify refuses it)", decision.doubt)
        self._followed[netns] = _Followed(decision, {candidate.pid})
        way, verified = str(candidate.found_by), not decision.doubt
        place = Place("pod", netns.inode, "lo", candidate.pid, str(address), verified, way, name=candidate.pod)
        scope = Scope(str(address), None, delivered_from_itself=candidate.found_by is Finder.LINKERD)
        self._add(netns, ring, place, scope)
        self._missing.say_gateway(candidate, address)
