"""`tapper tap`: captures until it is told to stop. One packet's way:

    ring -> source (namespace, pod) -> stream -> protocol -> record -> writer

One thread does everything in a loop: it waits for rings, feeds, processes and signals, and handles what has come.
`tapper.follow.follower` decides in which pods' namespaces sources are opened.
"""

from __future__ import annotations

import functools
import os
import select
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tapper.capture import bpf
from tapper.capture.mapped import CaptureRing, Statistics
from tapper.capture.memory import TOTAL, RingMemory
from tapper.capture.ring import Ring, open_ring
from tapper.capture.source import NO_INTERFACE, Source
from tapper.capture.sources import Sources
from tapper.capture.walk import Blocks
from tapper.discovery.finders import Finder
from tapper.discovery.procfs import Procfs
from tapper.errors import UsageError, explain
from tapper.follow.encrypted import EncryptedTargets
from tapper.follow.follower import Follower
from tapper.namespaces.identity import NamespaceId, own_namespace
from tapper.output.console import Console
from tapper.output.records import Place, Row, Snapshot, Stat
from tapper.output.sink import Closed
from tapper.protocols.records import FactRecord, Record
from tapper.run import quiet
from tapper.run.accounts import Account
from tapper.run.followed_targets import FollowedTargets
from tapper.run.pending import POLL_S, PendingRecords
from tapper.run.plaintext import OpenPlaintext, PlaintextOf, PlaintextSources
from tapper.run.silent import SilentRings
from tapper.run.writer import RecordWriter
from tapper.signals import StopSignals
from tapper.streams.connection import Scope
from tapper.targets.addresses import Address, packed
from tapper.targets.feed import TargetFeed
from tapper.wire.verdict import WireVerdict

if TYPE_CHECKING:
    from tapper.run.snapshot_requests import SnapshotRequests  # whose imports only --metrics needs

_NODE = "node"
_LOOPBACK_INDEX = 1  # LOOPBACK_IFINDEX, include/net/net_namespace.h: the same in every namespace
_FOREVER_S = 3600.0
_GLANCE_INTERVAL_S = 0.25
_LAG_TOLD_S = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    targets: frozenset[Address]
    istio: bool = False
    procfs: str = "/proc"
    interface: str | None = None
    verify: bool = False
    """Whether to capture only in namespaces that have the address which their Envoy claims."""
    finders: frozenset[Finder] = frozenset({Finder.ENVOY})
    ring_memory: int = TOTAL
    """Bytes that all packet rings may take together."""
    feeds: tuple[TargetFeed, ...] = ()
    """Further lists of targets, which change."""
    plaintext: OpenPlaintext | None = None
    """Opens the capture of what the pods' applications encrypt themselves; None without --tls."""
    ready_fd: int | None = None
    """A descriptor to write to once every target that can be captured is captured."""


class LiveTap:
    """One run. `requests` are other threads' requests for the counts; `blocks` reads the memory of packet rings."""

    _pending: PendingRecords  # made with the node's source, which is the first
    _node_ring: Ring

    def __init__(
        self,
        options: Options,
        writer: RecordWriter,
        console: Console,
        requests: SnapshotRequests[Snapshot] | None = None,
        blocks: type[Blocks] = Blocks,
    ) -> None:
        self._options = options
        self._requests = requests
        self._writer = writer
        self._output = writer.output
        self._output_waits = False
        """Whether the loop waits for the output's reader to take more."""
        self._lags_since: float | None = None
        """Since when the rings are not read because of the output's reader, by time.monotonic."""
        self._console = console
        self._own = own_namespace()
        self._memory = RingMemory(options.ring_memory)
        self._blocks = blocks
        self._sources: Sources[Record] = Sources()
        self._accounts: dict[object, Account] = {}  # by the keys of the sources
        self._targets = FollowedTargets(options.targets, options.feeds)
        self._encrypted = EncryptedTargets(console, own_tls=options.plaintext is None)
        self._plaintext: PlaintextSources | None = None
        self._follower: Follower | None = None
        self._quiet: quiet.QuietConnections | None = None
        self._silent: SilentRings | None = None
        self._next_second = 0.0  # by time.monotonic
        self._next_check = 0.0
        self._closings: list[Callable[[], None]] = []  # to be reported once the last records are
        self._ending = False

    def run(self) -> None:
        """Returns when a signal says so. Raises TapperError if capturing is impossible from the start, and Closed when
        the output's reader has gone."""
        with ExitStack() as stack:
            # 1. Feeds come before the signal handlers, so that Ctrl-C ends a wait for a server at once.
            stack.callback(self._release)
            for feed in self._options.feeds:
                stack.enter_context(feed)
            signals = stack.enter_context(StopSignals())
            # 2. The descriptors that the loop waits for.
            self._sources.watch(signals.fileno(), select.POLLIN, signals.clear)
            self._output.do_not_wait()
            self._sources.watch(self._output.fileno(), 0, self._output_ready)
            if self._requests is not None:
                answer = functools.partial(self._requests.answer, self._snapshot)
                self._sources.watch(self._requests.fileno(), select.POLLIN, answer)
            for feed in self._options.feeds:
                descriptor = feed.fileno()
                if descriptor is not None:
                    self._sources.watch(descriptor, select.POLLIN, _wake_up)
            # 3. The sources.
            self._targets.update()
            self._writer.begin()
            self._open_node()
            if self._options.plaintext is not None:
                capture = self._options.plaintext(Procfs(self._options.procfs))
                self._plaintext = PlaintextSources(
                    capture, self._sources, self._console, self._add, self._writer.unreadable
                )
            if self._options.istio:
                self._begin_following()
            if self._plaintext is not None:
                self._plaintext.look()
            self._acknowledge()
            self._say_ready()
            # 4. The loop.
            while not signals.asked:
                self._turn()
                if signals.report:
                    signals.report = False
                    self._writer.report_so_far(self._rows())
            self._end()
        self._writer.end()
        self._output.finish()

    def _turn(self) -> None:
        # 1. Follow the targets and the pods' namespaces.
        if self._targets.update():
            self._retarget()
        looked = self._follower is not None and self._follower.is_due() and self._follower.look()
        if self._plaintext is not None and time.monotonic() >= self._plaintext.next_look:
            self._plaintext.look()
        if looked:
            self._acknowledge()
        if self._encrypted.waiting:
            self._encrypted.judge(self._is_quiet)
        # 2. Wait, and read the rings.
        self._wait_for_reader()
        reading = not self._output.lags
        self._sources.turn(self._wake() - time.monotonic(), self._deliver, self._trouble, self._closed, reading=reading)
        # 3. Report the records that have waited, and keep the memory bounded.
        if self._pending:
            self._writer.report(self._pending.ready())
        self._writer.stay_within_bounds(self._accounts.values(), self._take)
        # 4. Do what has to be done from time to time.
        now = time.monotonic()
        if now >= self._next_second:
            self._next_second = now + 1
            for account in self._accounts.values():
                if account.connections.waits:
                    self._take(account, account.connections.tell_time(time.time_ns()))
            if self._silent is not None:
                self._silent.check(
                    (source.key, source.ring, self._accounts[source.key].place)
                    for source in self._sources
                    if isinstance(source.key, NamespaceId) and isinstance(source.ring, Ring)
                )
        if now >= self._next_check and self._quiet is not None:
            self._next_check = now + quiet.INTERVAL_S
            checked = self._quiet.check(
                (key, self._accounts[key])
                for key in [source.key for source in self._sources]
                if isinstance(key, NamespaceId)
            )
            if checked is not None:
                self._take(*checked)

    def _wake(self) -> float:
        """When to stop waiting although nothing has come, by time.monotonic."""
        now = time.monotonic()
        wake = min(now + _FOREVER_S, self._targets.next_glance)
        if self._follower is not None:
            wake = min(wake, self._follower.next_look)
        if self._plaintext is not None:
            wake = min(wake, self._plaintext.next_look)
        if self._encrypted.waiting:
            wake = min(wake, now + _GLANCE_INTERVAL_S)
        if self._pending:
            wake = min(wake, now + POLL_S)
        if any(account.connections.waits for account in self._accounts.values()):
            wake = min(wake, self._next_second)
        return wake

    def _end(self) -> None:
        """Drain every ring until a deadline, then report the records that wait for the wire, then the counts."""
        self._ending = True
        for source in self._sources:
            self._sources.shut(source.key)
        while len(self._sources):
            self._sources.turn(_FOREVER_S, self._deliver, self._trouble, self._closed)
            if _NODE in self._sources:  # its ring is asked whether it is read to the end
                self._writer.report(self._pending.ready())
        self._writer.report(self._pending.rest())
        for say_closed in self._closings:
            say_closed()

    def _release(self) -> None:
        """Let go of namespaces and processes, whatever ends the run."""
        self._sources.close()
        if self._plaintext is not None:
            self._plaintext.close()
        if self._follower is not None:
            self._follower.release()

    def _rows(self) -> list[Row]:
        """The counts of the open sources."""
        return [self._accounts[source.key].row(_stat(source, source.ring.statistics())) for source in self._sources]

    def _snapshot(self) -> Snapshot:
        return Snapshot(self._writer.rows(self._rows()), len(self._sources), len(self._targets.now.addresses))

    # Callbacks of the loop.

    def _deliver(self, source: Source[Record], records: Sequence[Record]) -> None:
        self._take(self._accounts[source.key], records)

    def _take(self, account: Account, records: Sequence[Record]) -> None:
        """Records from the wire, and from processes, are reported at once; those from a pod's lo wait for the wire
        below them."""
        if account is self._accounts.get(_NODE):
            self._writer.deliver(account, records)
            self._pending.wire_read(records, account.connections.newest)
        elif account.connections.scope.libraries or (
            records and not self._ending and self._pending.may_bypass(account)
        ):
            self._writer.deliver(account, records)
        else:
            self._pending.add(account, records)
            self._writer.record()
        for record in records:
            if isinstance(record, FactRecord):
                self._encrypted.note(account.place, record, self._targets.now.addresses)

    def _trouble(self, source: Source[Record], message: str) -> None:
        place = self._accounts[source.key].place
        self._console.warn(f"interface {place.interface} in network namespace {place.netns}: {message}")

    def _closed(self, source: Source[Record], statistics: Statistics) -> None:
        account = self._accounts.pop(source.key)
        account.connections.abandon()
        if self._plaintext is not None and isinstance(source.key, NamespaceId):
            self._plaintext.lo_closed(source.key)
            if PlaintextOf(source.key) in self._sources:
                self._sources.shut(PlaintextOf(source.key))
        self._leave_lo_to_pods()
        if self._follower is not None:
            self._follower.look_soon()  # another Envoy may have started there meanwhile
        say_closed = functools.partial(self._say_closed, account, time.time_ns(), _stat(source, statistics))
        if self._ending:
            self._closings.append(say_closed)
        else:
            self._writer.report(self._pending.of(account))
            say_closed()

    def _say_closed(self, account: Account, ts: int, stat: Stat) -> None:
        self._writer.close(account, ts, stat)
        self._console.progress(f"closed {account.place}")

    def _output_ready(self) -> None:
        """The output's reader takes more, or has gone."""
        if not self._output.waiting:
            raise Closed
        self._output.go_on()

    def _wait_for_reader(self) -> None:
        """Watch whether the output's reader takes more, if something waits for it. While much waits, the rings are not
        read: they hold what comes, and the kernel counts for each source what finds no room."""
        if not self._output.lags:
            self._lags_since = None
        elif self._lags_since is None:
            self._lags_since = time.monotonic()
        elif time.monotonic() - self._lags_since > _LAG_TOLD_S:
            self._console.warn_once(
                "output",
                "the output is not read as fast as it is written: packets wait in the rings, and what finds no room "
                "there is counted as dropped",
            )
        waits = self._output.waiting > 0
        if waits != self._output_waits:
            self._output_waits = waits
            self._sources.watch(self._output.fileno(), select.POLLOUT if waits else 0, self._output_ready)

    # Sources.

    def _open_node(self) -> None:
        targets = packed(self._targets.now.addresses)
        ring = open_ring(self._options.interface, bpf.program(targets, tunnels=True), self._memory, blocks=self._blocks)
        place = Place("node", self._own.inode, self._options.interface or "any")
        self._node_ring = ring
        self._add(_NODE, ring, place, Scope(None, targets))
        self._pending = PendingRecords(WireVerdict(self._accounts[_NODE].connections), ring.drained)

    def _begin_following(self) -> None:
        options = self._options
        self._follower = Follower(
            Procfs(options.procfs),
            self._sources,
            self._console,
            self._add,
            self._drop,
            self._targets.now.addresses,
            finders=options.finders,
            verify=options.verify,
            memory=self._memory,
            blocks=self._blocks,
        )
        self._quiet = quiet.QuietConnections(self._follower.connections_in)
        self._silent = SilentRings(self._follower.tcp_on_lo, self._console.warn_once)
        self._follower.begin()

    def _add(self, key: object, ring: CaptureRing, place: Place, scope: Scope) -> None:
        account = self._writer.open(replace(place, pods=self._targets.now.names), scope)
        self._accounts[key] = account
        self._sources.add(Source(key, ring, account.reader))
        self._leave_lo_to_pods()
        self._writer.opened(account)
        self._console.progress(f"capturing {account.place}")
        if self._plaintext is not None and isinstance(key, NamespaceId):
            self._plaintext.lo_opened(key, place, scope)

    def _drop(self, key: Hashable) -> None:
        self._pending.drop(self._accounts[key])
        self._sources.discard(key, self._closed)
        if isinstance(key, NamespaceId) and PlaintextOf(key) in self._sources:
            self._sources.discard(PlaintextOf(key), self._closed)

    def _is_quiet(self, address: str) -> bool | None:
        """Whether the lo of the pod with this address has shown no connection; None if it is not captured."""
        netns = None if self._follower is None else self._follower.namespace_of(address)
        return None if netns is None else not self._accounts[netns].connections.tally.connections

    def _leave_lo_to_pods(self) -> None:
        """An Envoy in the node's own namespace has its lo captured as a pod's; then the node's source leaves it out."""
        node = self._sources.get(_NODE)
        if node is not None:
            node.ignored_interface = _LOOPBACK_INDEX if self._own in self._sources else NO_INTERFACE

    # Targets.

    def _retarget(self) -> None:
        """Stop reporting addresses that are no targets any more, and begin with new ones."""
        targets = self._targets.now
        # 1. The streams are scoped exactly; the kernel's filter may let more through.
        wanted = packed(targets.addresses)
        self._accounts[_NODE].connections.rescope(Scope(None, wanted))
        self._node_ring.restrict(bpf.program(wanted, tunnels=True))
        # 2. Pods may have other names.
        for account in self._accounts.values():
            account.place = replace(account.place, pods=targets.names)
        # 3. Other namespaces may be wanted.
        if self._follower is None:
            self._acknowledge()
        else:
            self._follower.retarget(targets.addresses)
        self._encrypted.keep(targets.addresses)

    def _acknowledge(self) -> None:
        """The sources match the list of targets."""
        if self._targets.unacknowledged is not None:
            self._writer.acknowledge(self._targets.unacknowledged)
            self._targets.unacknowledged = None

    def _say_ready(self) -> None:
        """The reader of the descriptor begins to send traffic, so all sources have to be open."""
        descriptor = self._options.ready_fd
        if descriptor is not None:
            try:
                os.write(descriptor, b"\n")
                os.close(descriptor)
            except OSError as error:
                raise UsageError(f"cannot write to descriptor {descriptor}: {explain(error)} (--ready-fd)") from error


def _stat(source: Source[Record], counted: Statistics) -> Stat:
    ring = source.ring
    return Stat(counted.received, counted.dropped, ring.cut, ring.bad_checksum, counted.unread, source.share.postponed)


def _wake_up() -> None:
    """The loop takes news between two turns, since no source may be dropped within a turn."""
