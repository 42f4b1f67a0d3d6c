"""`tapper tap`: the life of the sources, and the wiring of one packet's way.

    ring -> source (namespace, pod) -> stream -> protocol -> exchange -> output

Which pods' sources there are is `tapper.follow.follower`'s affair.
"""

from __future__ import annotations

import functools
import math
import os
import select
import sys
import time
from collections.abc import Callable, Hashable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tapper.capture import bpf
from tapper.capture.mapped import Statistics
from tapper.capture.memory import TOTAL, RingMemory
from tapper.capture.ring import Ring, open_ring
from tapper.capture.sources import NO_INTERFACE, Source, Sources
from tapper.discovery.finders import Finder
from tapper.discovery.procfs import Procfs
from tapper.errors import UsageError, explain
from tapper.follow.follower import Follower
from tapper.follow.missing import Opaque
from tapper.namespaces.identity import NamespaceId, own_namespace
from tapper.output.records import Place, Row, Snapshot, Stat
from tapper.output.sink import Closed, Console
from tapper.protocols.records import FactRecord, Record
from tapper.run.accounts import Account
from tapper.run.pending import POLL_S, Held
from tapper.run.writer import Outlet
from tapper.signals import StopSignals
from tapper.streams.connection import Scope
from tapper.streams.packet import mirror
from tapper.targets.addresses import Address, packed
from tapper.targets.feed import TargetFeed
from tapper.targets.pods import Targets, union
from tapper.wire.verdict import Beneath

if TYPE_CHECKING:
    from tapper.run.snapshot_requests import Enquiry  # whose imports cost what only --metrics needs

_NODE = "node"
_LOOPBACK_INDEX = 1  # LOOPBACK_IFINDEX, include/net/net_namespace.h: the same in every namespace
_FOREVER_S = 3600.0
_GLANCE_INTERVAL_S = 0.25
_ENQUIRY_INTERVAL_S = 10.0
"""How often one pod is asked whether its quiet connections exist."""
_QUIET_NS = 300 * 1_000_000_000
_MOST_ASKED = 4096
"""Quiet connections that are asked about at a time."""
_SWITCH_S = 0.000_5
"""How long this thread may keep the interpreter from one that makes a ring larger: that calls the kernel a dozen times,
and with Python's 5 ms each time what comes fast has filled the ring before."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the person asked for."""

    targets: frozenset[Address]
    istio: bool = False
    procfs: str = "/proc"
    interface: str | None = None
    verify: bool = False
    """Whether only namespaces are captured in that have the address their Envoy claims."""
    finders: frozenset[Finder] = frozenset({Finder.ENVOY})
    ring_memory: int = TOTAL
    """Bytes that all packet rings may take together."""
    feeds: tuple[TargetFeed, ...] = ()
    """Whose targets come on top."""
    ready_fd: int | None = None
    """A descriptor that is told when every target that can be captured is captured."""


class Tap:
    """One run. `run` returns when a signal asks for it, and raises Closed when nobody reads the output any longer."""

    _held: Held  # made with the node's source, which is the first

    def __init__(
        self, options: Options, outlet: Outlet, console: Console, enquiry: Enquiry[Snapshot] | None = None
    ) -> None:
        self._options = options
        self._enquiry = enquiry
        self._outlet = outlet
        self._console = console
        self._own = own_namespace()
        self._memory = RingMemory(options.ring_memory)
        self._sources: Sources[Record] = Sources()
        self._captures: dict[object, Account] = {}
        self._follower: Follower | None = None
        self._named: dict[TargetFeed, Targets] = {}
        self._targets = Targets(options.targets)
        self._unacknowledged: int | None = None
        self._opaque = Opaque(console)
        self._next_second = 0.0  # by time.monotonic
        self._next_enquiry = 0.0
        self._asked: set[Hashable] = set()  # sources whose quiet connections were asked about, this time round
        self._last_words: list[Callable[[], None]] = []  # of the sources, once the run ends
        self._ending = False

    def run(self) -> None:
        """Capture until told to stop. Raises TapperError for what makes it impossible from the start."""
        with ExitStack() as stack:
            stack.callback(sys.setswitchinterval, sys.getswitchinterval())
            sys.setswitchinterval(_SWITCH_S)
            stack.callback(self._release)
            for feed in self._options.feeds:  # before the signals: whoever asks a server in vain can be ended at once
                stack.enter_context(feed)
            signals = stack.enter_context(StopSignals())
            self._sources.watch(signals.fileno(), select.POLLIN, signals.clear)
            self._sources.watch(self._outlet.fileno(), 0, self._output_closed)
            if self._enquiry is not None:
                answer = functools.partial(self._enquiry.answer, self._snapshot)
                self._sources.watch(self._enquiry.fileno(), select.POLLIN, answer)
            for feed in self._options.feeds:
                descriptor = feed.fileno()
                if descriptor is not None:
                    self._sources.watch(descriptor, select.POLLIN, _wake_up)
            self._glance()
            self._outlet.begin()
            self._open_node()
            if self._options.istio:
                self._begin_following()
            self._acknowledge()
            self._say_ready()
            while not signals.asked:
                self._turn()
                if signals.report:
                    signals.report = False
                    self._report_so_far()
            self._end()
        self._outlet.end()

    def _turn(self) -> None:
        if self._glance():
            self._retarget()
        wake = min((feed.next_glance for feed in self._options.feeds), default=math.inf)
        wake = min(wake, time.monotonic() + _FOREVER_S)
        follower = self._follower
        if follower is not None:
            if follower.is_due() and follower.look():
                self._acknowledge()
            wake = min(wake, follower.next_look)
        if self._opaque.waiting:
            self._opaque.judge(self._is_quiet)
            wake = min(wake, time.monotonic() + _GLANCE_INTERVAL_S)
        if self._held:
            wake = min(wake, time.monotonic() + POLL_S)
        if any(account.connections.pending for account in self._captures.values()):
            wake = min(wake, self._next_second)
        self._sources.turn(wake - time.monotonic(), self._deliver, self._trouble, self._closed)
        if self._held:
            self._outlet.report(self._held.ready())
        self._outlet.stay_within_bounds(self._captures.values(), self._take)
        now = time.monotonic()
        if now >= self._next_second:
            self._next_second = now + 1
            self._pass_time()
        if now >= self._next_enquiry:
            self._next_enquiry = now + _ENQUIRY_INTERVAL_S
            self._ask_about_quiet_connections()

    def _pass_time(self) -> None:
        """Where packets would tell how late it is, there may be none."""
        now = time.time_ns()
        for account in self._captures.values():
            if account.connections.pending:
                self._take(account, account.connections.pass_time(now))

    def _ask_about_quiet_connections(self) -> None:
        """Whether one pod's connections that were quiet for long still exist: their ends may not have been captured.
        The node's belong to other network namespaces."""
        follower = self._follower
        if follower is None:
            return
        since = time.time_ns() - _QUIET_NS
        for source in self._sources:
            netns, account = source.key, self._captures[source.key]
            if not isinstance(netns, NamespaceId) or netns in self._asked:
                continue
            quiet = account.connections.quiet(since, _MOST_ASKED)
            if not quiet:
                continue
            self._asked.add(netns)
            known = follower.connections_in(netns)
            if known is not None:
                gone = [key for key in quiet if key not in known and mirror(key) not in known]
                self._take(account, account.connections.gone(gone, since))
            return
        self._asked.clear()  # all have had their turn

    def _end(self) -> None:
        self._ending = True
        for source in self._sources:
            self._sources.shut(source.key)
        while len(self._sources):
            self._sources.turn(_FOREVER_S, self._deliver, self._trouble, self._closed)
        self._outlet.report(self._held.rest())
        for close in self._last_words:
            close()

    def _report_so_far(self) -> None:
        """On SIGUSR1."""
        self._outlet.report_so_far(self._rows())

    def _rows(self) -> list[Row]:
        """The open sources as they stand."""
        return [self._captures[source.key].row(_stat(source, source.ring.statistics())) for source in self._sources]

    def _snapshot(self) -> Snapshot:
        return Snapshot(self._outlet.rows(self._rows()), len(self._sources), len(self._targets.addresses))

    # What the loop calls.

    def _deliver(self, source: Source[Record], seen: list[Record]) -> None:
        self._take(self._captures[source.key], seen)

    def _take(self, account: Account, seen: list[Record]) -> None:
        """What was seen in pods waits for the wire beneath; what was seen on the wire does not."""
        if account is self._captures.get(_NODE):
            self._outlet.deliver(account, seen)
            self._held.wire_read(seen, account.connections.newest)
        elif not seen:
            self._outlet.record()
        elif not self._ending and self._held.passes(account):
            self._outlet.deliver(account, seen)
        else:
            self._held.put(account, seen)
            self._outlet.record()
        for record in seen:
            if isinstance(record, FactRecord):
                self._opaque.note(account.place, record, self._targets.addresses)

    def _trouble(self, source: Source[Record], message: str) -> None:
        place = self._captures[source.key].place
        self._console.warn(f"interface {place.interface} in network namespace {place.netns}: {message}")

    def _closed(self, source: Source[Record], statistics: Statistics) -> None:
        account = self._captures.pop(source.key)
        self._leave_lo_to_pods()
        if self._follower is not None:
            self._follower.look_soon()  # another Envoy may have begun there meanwhile
        close = functools.partial(self._say_closed, account, time.time_ns(), _stat(source, statistics))
        if self._ending:
            self._last_words.append(close)
            return
        self._outlet.report(self._held.of(account))
        close()

    def _say_closed(self, account: Account, ts: int, stat: Stat) -> None:
        self._outlet.close(account, ts, stat)
        self._console.progress(f"closed {account.place}")

    def _output_closed(self) -> None:
        raise Closed

    # Sources.

    def _open_node(self) -> None:
        targets = packed(self._targets.addresses)
        ring = open_ring(self._options.interface, bpf.program(targets), self._memory)
        place = Place("node", self._own.inode, self._options.interface or "any")
        self._add(_NODE, ring, place, Scope(None, targets))
        self._held = Held(Beneath(self._captures[_NODE].connections), ring.drained)

    def _begin_following(self) -> None:
        options = self._options
        follower = Follower(
            Procfs(options.procfs),
            self._sources,
            self._console,
            self._add,
            self._drop,
            self._targets.addresses,
            finders=options.finders,
            verify=options.verify,
            memory=self._memory,
        )
        self._follower = follower  # which is released whatever happens in its first look
        follower.begin()

    def _add(self, key: object, ring: Ring, place: Place, scope: Scope) -> None:
        account = self._outlet.open(replace(place, pods=self._targets.names), scope)
        self._captures[key] = account
        self._sources.add(Source(key, ring, account.reader))
        self._leave_lo_to_pods()
        self._outlet.opened(account)
        self._console.progress(f"capturing {account.place}")

    def _drop(self, key: Hashable) -> None:
        self._held.drop(self._captures[key])
        self._sources.discard(key, self._closed)

    def _is_quiet(self, address: str) -> bool | None:
        """Whether nothing was seen on the lo of the pod that has this address; None where nobody looks."""
        netns = None if self._follower is None else self._follower.namespace_of(address)
        return None if netns is None else not self._captures[netns].connections.tally.connections

    def _leave_lo_to_pods(self) -> None:
        """An Envoy in the node's own namespace has its lo captured as a pod's; then the node's source leaves it out."""
        node = self._sources.get(_NODE)
        if node is not None:
            node.ignored_interface = _LOOPBACK_INDEX if self._own in self._sources else NO_INTERFACE

    # Targets.

    def _glance(self) -> bool:
        """Take the feeds' news, and return whether there were any."""
        told = False
        for feed in self._options.feeds:
            named = feed.news()
            if named is not None:
                self._named[feed] = named
                self._unacknowledged = self._unacknowledged if named.generation is None else named.generation
                told = True
        if told:
            self._targets = union([Targets(self._options.targets), *self._named.values()])
        return told

    def _retarget(self) -> None:
        """Nothing more of what is no target any longer; first of all here, since the kernel's filter may be wider."""
        targets = packed(self._targets.addresses)
        self._captures[_NODE].connections.rescope(Scope(None, targets))
        node = self._sources.get(_NODE)
        assert node is not None, "the node is captured as long as the tapper runs"
        node.ring.restrict(bpf.program(targets))
        for capture in self._captures.values():
            capture.place = replace(capture.place, pods=self._targets.names)
        if self._follower is None:
            self._acknowledge()
        else:
            self._follower.retarget(self._targets.addresses)
        self._opaque.keep(self._targets.addresses)

    def _acknowledge(self) -> None:
        """The sources are what the list of this generation asks for."""
        if self._unacknowledged is not None:
            self._outlet.acknowledge(self._unacknowledged)
            self._unacknowledged = None

    def _say_ready(self) -> None:
        """Not before it is true: whoever waits for it sends what is to be seen."""
        if self._options.ready_fd is not None:
            try:
                os.write(self._options.ready_fd, b"\n")
                os.close(self._options.ready_fd)
            except OSError as error:
                raise UsageError(
                    f"cannot write to descriptor {self._options.ready_fd}: {explain(error)} (--ready-fd)"
                ) from error

    def _release(self) -> None:
        """Whatever way the run ends: let go of namespaces and processes. In good order nothing is left to do."""
        self._sources.close()
        if self._follower is not None:
            self._follower.release()


def _stat(source: Source[Record], counted: Statistics) -> Stat:
    return Stat(counted.received, counted.dropped, source.ring.cut, source.ring.bad_checksum)


def _wake_up() -> None:
    """Readable for as long as there is news, which is taken between two turns: sources cannot be dropped in one."""
