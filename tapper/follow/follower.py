"""Sources follow the targets' namespaces, found by their Envoys or otherwise (`tapper.discovery.finders`).

A look at all processes finds new ones and those that went; the death of a known one is told by the kernel through its
pidfd and causes a look at once. A source is closed only on evidence: the processes by which it was found died, or were
looked at and lead to a target no longer. A look that failed, or did not see everything, closes nothing. Most looks find
what the last one found, and then nothing is done.

Before a namespace is captured in, it is asked for its own addresses (`tapper.follow.decision`).
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias, TypeVar

from tapper.capture import bpf
from tapper.capture.memory import RingMemory
from tapper.capture.ring import Ring, open_ring
from tapper.capture.sources import Sources
from tapper.discovery.births import Births
from tapper.discovery.census import Census
from tapper.discovery.finders import Candidate, Finder
from tapper.discovery.procfs import Procfs
from tapper.discovery.roles import linkerd_pod
from tapper.discovery.scanner import Scan, made_unreadable, scan, unexamined
from tapper.errors import NamespaceGoneError, TapperError
from tapper.follow import pace
from tapper.follow.decision import Homes, Wanted
from tapper.follow.events import Processes
from tapper.follow.missing import Known, Unseen
from tapper.namespaces.enter import Visit, run_inside, run_inside_each
from tapper.namespaces.identity import NamespaceId, own_namespace
from tapper.namespaces.privileges import check_following
from tapper.namespaces.sockets import tcp_connections
from tapper.output.records import Place
from tapper.output.sink import Console
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
    """A source that is open, or still drained."""

    addresses: frozenset[Address]
    """It is a target's as long as one of these is a target."""
    owned: frozenset[Address]
    """All that its namespace had when it was opened."""
    found_by: Finder
    foreign: bool = False
    """Whether a process of a pod may have made the namespace."""
    pids: set[int] = field(default_factory=set)
    """The processes by which its namespace was found, as of the last look that saw them."""


class Follower:
    """Opens sources in the namespaces of targets, by `add`, and shuts them when their Envoys are gone."""

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
    ) -> None:
        self._procfs = procfs
        self._sources = sources
        self._console = console
        self._add = add
        self._drop = drop
        self._finders = finders
        self._memory = memory or RingMemory()
        self._targets = targets
        self._births = Births(procfs)
        self._census = Census(self._births)
        self._found: Scan | None = None
        """What was dealt with last."""
        self._rests_until = 0.0
        """By time.monotonic: as long as a look finds nothing else, what it finds needs no dealing with again."""
        self._followed: dict[NamespaceId, _Followed] = {}
        """What there is to know about the open sources."""
        self._verify = verify
        self._homes = Homes(procfs, console, verify=verify)
        self._unseen = Unseen(procfs, console, finders, self._homes.addresses)
        self._processes = Processes(sources, console, self._changed)
        self._settled = False
        """Whether all that the last look found is captured in."""
        self._cost = 0.0
        """How long the last look took, in seconds."""
        self._early = 0.0
        """From when on to look again where the tapper is awake anyway, by time.monotonic."""
        self.next_look = 0.0
        """When to be woken to look again, likewise."""

    def begin(self) -> None:
        """The first look. Raises TapperError for what makes following impossible."""
        check_following(reads_environ=Finder.ENVOY in self._finders)
        if self._procfs.numbers_are_ours():
            self._processes.enable()
        # before the first look: what happens during it is looked at again, and nothing falls between the two
        self._processes.watch_births(self._is_news)
        if self._finders != {Finder.ENVOY}:
            self._processes.watch_addresses(self._given)
        found = self._scan()
        self._homes.shared = frozenset(filter(None, (own_namespace(), self._procfs.netns(1))))
        self._follow(found)
        if found.unreadable:
            self._console.warn(unexamined(found))
        self._rest(0.0)

    def retarget(self, targets: frozenset[Address]) -> None:
        """Other targets: sources of those that are none any longer are dropped; the next look finds the new ones."""
        self._targets = targets
        for netns, followed in list(self._followed.items()):
            if netns in self._sources and not followed.addresses & targets:
                self._drop(netns)
        self._unseen.keep(targets)
        self.look_soon()

    def look_soon(self) -> None:
        """Something has changed, perhaps nothing that a look shows."""
        self._rests_until = 0.0
        self.next_look = time.monotonic()

    def is_due(self) -> bool:
        """Whether to look now."""
        return time.monotonic() >= min(self._early, self.next_look)

    def look(self) -> bool:
        """Look at all processes again, and follow what has changed. Returns whether there was anything to see."""
        started = time.monotonic()
        followed = True
        try:
            found = self._scan()
        except TapperError as error:
            self._console.warn_once(("scan", str(error)), f"{error}; what is open stays open")
            followed = False
        else:
            if found is not self._found or started >= self._rests_until:
                self._follow(found)
        self._rest(time.monotonic() - started)
        return followed

    def _rest(self, cost: float) -> None:
        """Until the next look, after one that took so long."""
        now = time.monotonic()
        told = self._settled and self._processes.hears_births and Finder.NETNS not in self._finders
        early, late = pace.interval(cost, told=told)
        self._cost, self._early, self.next_look = cost, now + early, now + late

    def namespace_of(self, address: str) -> NamespaceId | None:
        """The namespace that has an address (canonically spelled), of those that are captured in."""
        homes = (netns for netns, followed in self._followed.items() if address in map(str, followed.owned))
        return next((netns for netns in homes if netns in self._sources), None)

    def connections_in(self, netns: NamespaceId) -> frozenset[bytes] | None:
        """The open TCP connections of a namespace that is captured in, by the keys of their packets; None where that
        cannot be told."""
        try:
            return self._enter(netns, tcp_connections)
        except TapperError:
            return None

    def release(self) -> None:
        """Let go of processes."""
        self._processes.release()
        self._births.close()
        self._procfs.close()

    def _scan(self) -> Scan:
        return scan(self._procfs, self._targets, finders=self._finders, census=self._census)

    def _follow(self, found: Scan) -> None:
        """Open what is new, close what is certainly gone."""
        self._found, self._rests_until = found, 0.0
        hostile = made_unreadable(found)
        if hostile is not None:  # once in a run: a pod can make any number of them
            self._console.warn_once(made_unreadable, hostile)
        groups: dict[NamespaceId, list[Candidate]] = {}
        for candidate in sorted(found.candidates, key=lambda each: (_PREFERENCE[each.found_by], each.pid)):
            groups.setdefault(candidate.netns, []).append(candidate)
        self._homes.ask(groups, self._sources)
        self._open(groups)
        for netns, group in groups.items():
            if netns in self._sources:
                self._followed[netns].pids = {candidate.pid for candidate in group}
                for candidate in group:
                    self._processes.watch_death(candidate.pid)
        for netns, followed in list(self._followed.items()):
            if netns not in self._sources:
                del self._followed[netns]
            elif netns not in groups and not any(self._in_doubt(pid, found) for pid in followed.pids):
                self._sources.shut(netns)
        matched = {candidate.pid for candidate in found.candidates if candidate.netns in self._sources}
        self._processes.forget(found.seen - matched)
        watched = {pid for followed in self._followed.values() for pid in followed.pids}
        self._census.attend({pid for pid in watched if pid not in self._processes})  # nobody tells of their deaths
        waiting = [group for netns, group in groups.items() if netns not in self._sources]
        self._settled = not waiting
        self._say_unseen(found)
        self._rests_until = min((self._homes.holds_until(group, self._targets) for group in waiting), default=math.inf)

    def _say_unseen(self, found: Scan) -> None:
        claimed = {candidate.claimed for candidate in found.candidates if candidate.claimed is not None}
        captured = {address for followed in self._followed.values() for address in followed.owned}
        self._unseen.missing(found, self._targets, Known(claimed, captured, self._homes.shared))
        without_proxy = {
            netns: min(followed.addresses, key=str)
            for netns, followed in self._followed.items()
            if followed.found_by is Finder.NETNS
        }
        self._unseen.look(found, without_proxy)

    def _in_doubt(self, pid: int, found: Scan) -> bool:
        """Whether a former Envoy may still be one: it could not be read, or lives although the scan did not see it."""
        return pid in found.unreadable or (pid in self._processes and pid not in found.seen)

    # Opening.

    def _open(self, groups: dict[NamespaceId, list[Candidate]]) -> None:
        """Open a source in each namespace of a target, given the processes of each; one does, and the next one is tried
        where it fails. The kernel takes milliseconds for each, so they are opened together."""
        left = [list(group) for netns, group in groups.items() if netns not in self._sources]
        while left:
            judged = [self._judge(group.pop(0), groups) for group in left]
            wanted = self._within_quota([each for each in judged if each is not None])
            opened = run_inside_each([self._visit(each.candidate) for each in wanted], _TOGETHER)
            for each, ring in zip(wanted, opened, strict=True):
                self._take(each, ring)
            left = [group for group in left if group and group[0].netns not in self._sources]

    def _within_quota(self, wanted: list[Wanted]) -> list[Wanted]:
        """Without the namespaces that are too many of those that a pod may have made."""
        taken = Counter(
            address for followed in self._followed.values() if followed.foreign for address in followed.addresses
        )
        kept: list[Wanted] = []
        for each in wanted:
            if each.foreign:
                if taken[each.address] >= _MOST_FOREIGN_OF_ADDRESS or taken.total() >= _MOST_FOREIGN:
                    self._homes.warn(each.candidate, each.address, "is not captured", "too many claim its address")
                    continue
                taken[each.address] += 1
            kept.append(each)
        return kept

    def _visit(self, candidate: Candidate) -> Visit[Ring]:
        netns = candidate.netns
        path = self._procfs.namespace_path(candidate.pid)
        again = partial(self._enter, netns)
        return Visit(path, netns, lambda: open_ring("lo", bpf.program(), self._memory, again))

    def _enter(self, netns: NamespaceId, function: Callable[[], T]) -> T:
        """Call a function inside a namespace that is captured in, by way of whoever is still there. On any thread."""
        followed = self._followed.get(netns)
        for pid in sorted(followed.pids) if followed is not None else ():
            try:
                return run_inside(self._procfs.namespace_path(pid), netns, function)
            except NamespaceGoneError:
                continue
        raise NamespaceGoneError(f"nobody known is in network namespace {netns.inode} any longer")

    def _judge(self, candidate: Candidate, groups: dict[NamespaceId, list[Candidate]]) -> Wanted | None:
        """Whether to capture in a process's namespace."""
        wanted = self._homes.judge(candidate, self._targets)
        if wanted is None or wanted.doubt:
            return wanted
        rivals = self._homes.rivals(wanted, groups, self._sources)
        if not rivals:
            return wanted
        doubt = f"network namespace {rivals[0].netns.inode} (pid {rivals[0].pid}) has the same address"
        for rival in rivals:
            if rival.netns in self._sources:
                reason = f"network namespace {candidate.netns.inode} (pid {candidate.pid}) has the same address"
                self._homes.warn(rival, wanted.address, "is captured, although it is in doubt whose it is", reason)
        if self._verify:
            self._homes.warn(candidate, wanted.address, "is not captured (--verify)", doubt)
            return None
        return wanted._replace(doubt=doubt)

    def _take(self, wanted: Wanted, ring: Ring | TapperError) -> None:
        """Add the source. A failure is told once and costs nobody else anything."""
        candidate, address, doubt, addresses, owned, foreign = wanted
        if isinstance(ring, TapperError):
            if not isinstance(ring, NamespaceGoneError):
                self._homes.warn(candidate, address, "is not captured", str(ring))
            return
        if not self._still_is(candidate):
            ring.close()
            return
        if doubt:
            self._homes.warn(candidate, address, "is captured unverified (--verify refuses it)", doubt)
        netns = candidate.netns
        self._followed[netns] = _Followed(addresses, owned, candidate.found_by, foreign, {candidate.pid})
        name = linkerd_pod(self._procfs.environ(candidate.pid)) if candidate.found_by is Finder.LINKERD else None
        way = str(candidate.found_by)
        place = Place("pod", netns.inode, "lo", candidate.pid, str(address), not doubt, way, name=name)
        from_itself = candidate.found_by is Finder.LINKERD
        self._add(netns, ring, place, Scope(str(address), None, delivered_from_itself=from_itself))
        self._unseen.captured(candidate, address)

    def _still_is(self, candidate: Candidate) -> bool:
        pid = candidate.pid
        return candidate.found_by.finds(self._procfs.exe(pid)) and self._procfs.netns(pid) == candidate.netns

    # Looking again.

    def _changed(self, changed: int | None) -> None:
        """A process has died or become another program; None: any may have."""
        if changed is None:
            self._census.doubt_all()
        else:
            self._census.doubt(changed)
        self.look_soon()

    def _is_news(self, pid: int) -> bool:
        """Whether a program that has begun is worth a look at all processes: most are not."""
        self._census.doubt(pid)
        exe = self._procfs.exe(pid)
        if any(finder.finds(exe) for finder in self._finders if finder is not Finder.NETNS):
            return True
        netns = self._procfs.netns(pid) if Finder.NETNS in self._finders else None
        return netns is not None and netns not in self._sources and self._homes.is_new(netns)

    def _given(self, addresses: Set[Address] | None) -> None:
        """Interfaces were given addresses: a target's is worth a look, but looking is never all that is done."""
        if addresses is None or addresses & self._targets:
            self._homes.doubt()
            self._rests_until = 0.0
            self.next_look = min(self.next_look, time.monotonic() + 2 * self._cost)
