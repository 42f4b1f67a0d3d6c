"""`tapper tap`: the life of the sources, and the wiring of one packet's way.

    ring -> source (namespace, pod) -> stream -> protocol -> exchange -> output

Sources follow the Envoys. A rescan finds new ones and those that went; the death of a known one is told by the kernel
through its pidfd and causes a rescan at once. A source is closed only on evidence: its Envoys died, or were looked at
and are Envoys of a target no longer. A scan that failed, or did not see everything, closes nothing.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from tapper import __version__
from tapper.capture import bpf
from tapper.capture.namespace import SYS_ADMIN_ADVICE, may_enter_namespaces, run_inside
from tapper.capture.ring import Ring, Statistics, open_ring
from tapper.capture.sources import Reader, Source, Sources
from tapper.discovery.envoy import Envoy, is_envoy_path
from tapper.discovery.netns import NamespaceId, own_namespace
from tapper.discovery.procfs import Procfs
from tapper.discovery.scanner import Scan, scan, unexamined
from tapper.errors import MissingCapabilityError, NamespaceGoneError, TapperError
from tapper.output.pcapng import Recorder
from tapper.output.records import Format, Place, Stat, Totals
from tapper.output.shape import Shape
from tapper.output.sink import Closed, Console, Sink
from tapper.protocols.detect import Kind
from tapper.protocols.messages import BODY_LIMIT
from tapper.protocols.session import Session, Sighting
from tapper.signals import StopSignals
from tapper.streams.connection import Connection, Scope
from tapper.streams.connections import Connections
from tapper.targets.addresses import Address, packed

_NODE = "node"
_LOOPBACK_INDEX = 1  # LOOPBACK_IFINDEX, include/net/net_namespace.h: the same in every namespace
_SHORTEST_INTERVAL_S = 0.5
_SCAN_SHARE = 20  # a scan may take a twentieth of the time
_FOREVER_S = 3600.0
_HELD_BYTES = 256 << 20  # by all sources together


@dataclass(frozen=True, slots=True)
class Options:
    """What the person asked for."""

    targets: frozenset[Address]
    istio: bool = False
    procfs: str = "/proc"
    interface: str | None = None
    body_limit: int = BODY_LIMIT


@dataclass(slots=True)
class _Capture:
    """What belongs to a source besides its ring."""

    place: Place
    connections: Connections[Sighting]
    envoys: set[int] = field(default_factory=set)
    """The process ids by which a pod's namespace was found, as of the last scan that saw them."""


class Tap:
    """One run. `run` returns when a signal asks for it, and raises Closed when nobody reads the output any longer."""

    def __init__(
        self,
        options: Options,
        output: Sink,
        form: Format,
        console: Console,
        shape: Shape,
        recorder: Recorder | None = None,
    ) -> None:
        self._options = options
        self._output = output
        self._form = form
        self._shape = shape
        self._recorder = recorder
        self._console = console
        self._procfs = Procfs(options.procfs)
        self._own = own_namespace()
        self._sources: Sources[Sighting] = Sources()
        self._captures: dict[object, _Capture] = {}
        self._pidfds: dict[int, int] = {}
        self._watch_deaths = False
        self._next_scan = 0.0
        self._totals = Totals()

    def run(self) -> None:
        """Capture until told to stop. Raises TapperError for what makes it impossible from the start."""
        with ExitStack() as stack:
            stack.callback(self._release)
            signals = stack.enter_context(StopSignals())
            self._sources.watch(signals.fileno(), select.POLLIN, signals.clear)
            self._sources.watch(self._output.fileno(), 0, self._output_closed)
            self._emit(self._form.hello(__version__, os.getpid()))
            self._open_node()
            if self._options.istio:
                self._begin_following()
            while not signals.asked:
                self._turn()
                if signals.report:
                    signals.report = False
                    self._report_so_far()
            self._end()
        self._report()

    def _turn(self) -> None:
        timeout = _FOREVER_S
        if self._options.istio:
            if time.monotonic() >= self._next_scan:
                self._rescan()
            timeout = self._next_scan - time.monotonic()
        self._sources.turn(timeout, self._deliver, self._trouble, self._closed)
        self._stay_within_bounds()

    def _end(self) -> None:
        for source in self._sources:
            self._sources.shut(source.key)
        while len(self._sources):
            self._sources.turn(_FOREVER_S, self._deliver, self._trouble, self._closed)

    def _report(self) -> None:
        totals = self._totals
        self._emit(self._form.stat(None, Stat(totals.received, totals.dropped, totals.cut)) + self._form.bye(totals))
        self._console.summary(totals)

    def _report_so_far(self) -> None:
        """On SIGUSR1: the sources that were closed, and the open ones as they stand."""
        totals = replace(self._totals, undecoded=dict(self._totals.undecoded))
        for source in self._sources:
            now = source.ring.statistics()
            totals.add(Stat(now.received, now.dropped, source.ring.cut), self._captures[source.key].connections.tally)
        self._console.warn("so far:")
        self._console.summary(totals)

    # What the loop calls.

    def _deliver(self, source: Source[Sighting], sightings: Iterator[Sighting]) -> None:
        place, sighting_line = self._captures[source.key].place, self._form.sighting
        shown = self._shape.apply(sightings, self._totals)
        lines = [sighting_line(place, sighting) for sighting in shown]
        if lines:
            self._emit("".join(lines))
        if self._recorder is not None:
            self._output.write_bytes(self._recorder.take())

    def _trouble(self, source: Source[Sighting], message: str) -> None:
        place = self._captures[source.key].place
        self._console.warn(f"interface {place.interface} in network namespace {place.netns}: {message}")

    def _closed(self, source: Source[Sighting], statistics: Statistics) -> None:
        capture = self._captures.pop(source.key)
        stat = Stat(statistics.received, statistics.dropped, source.ring.cut)
        self._totals.add(stat, capture.connections.tally)
        if self._recorder is not None:
            self._recorder.close(capture.place, time.time_ns(), stat)
            self._output.write_bytes(self._recorder.take())
        self._leave_lo_to_pods()
        self._emit(self._form.source("closed", capture.place) + self._form.stat(capture.place, stat))
        self._console.progress(f"closed {capture.place}")

    def _output_closed(self) -> None:
        raise Closed

    def _emit(self, text: str) -> None:
        self._output.write(text)

    # Sources.

    def _open_node(self) -> None:
        targets = packed(self._options.targets)
        ring = open_ring(self._options.interface, bpf.program(targets))
        place = Place("node", self._own.inode, self._options.interface or "any")
        self._add(_NODE, ring, place, Scope(None, targets))

    def _open_pod(self, envoy: Envoy) -> bool:
        """Open a source in an Envoy's namespace. A failure is told once and costs nobody else anything."""
        try:
            path = self._procfs.namespace_path(envoy.pid)
            ring = run_inside(path, envoy.netns, lambda: open_ring("lo", bpf.program()))
        except NamespaceGoneError:
            return False
        except TapperError as error:
            self._console.warn_once(
                (envoy.netns, str(error)), f"the pod {envoy.instance_ip} (pid {envoy.pid}) is not captured: {error}"
            )
            return False
        if not self._still_is(envoy):
            ring.close()
            return False
        place = Place("pod", envoy.netns.inode, "lo", envoy.pid, str(envoy.instance_ip))
        self._add(envoy.netns, ring, place, Scope(str(envoy.instance_ip), None))
        return True

    def _add(self, key: object, ring: Ring, place: Place, scope: Scope) -> None:
        connections: Connections[Sighting] = Connections(scope, self._open_session)
        self._captures[key] = _Capture(place, connections)
        reader: Reader[Sighting] = connections
        if self._recorder is not None:
            reader = self._recorder.record(place, connections, scope)
            self._output.write_bytes(self._recorder.take())
        self._sources.add(Source(key, ring, reader))
        self._totals.sources += 1
        self._leave_lo_to_pods()
        self._emit(self._form.source("open", place))
        self._console.progress(f"capturing {place}")

    def _open_session(self, connection: Connection[Sighting]) -> Session:
        return Session(connection, self._count_undecoded, self._options.body_limit)

    def _count_undecoded(self, kind: Kind) -> None:
        self._totals.undecoded[kind] = self._totals.undecoded.get(kind, 0) + 1

    def _leave_lo_to_pods(self) -> None:
        """An Envoy in the node's own namespace has its lo captured as a pod's; then the node's source leaves it out."""
        node = self._sources.get(_NODE)
        if node is not None:
            node.ignored_interface = _LOOPBACK_INDEX if self._own in self._sources else None

    def _stay_within_bounds(self) -> None:
        if sum(capture.connections.held for capture in self._captures.values()) > _HELD_BYTES:
            key, capture = max(self._captures.items(), key=lambda item: item[1].connections.held)
            source = self._sources.get(key)
            assert source is not None, "a capture lives as long as its source"
            self._deliver(source, iter(capture.connections.relieve(capture.connections.held // 2)))

    # Following the Envoys.

    def _begin_following(self) -> None:
        if not may_enter_namespaces():
            raise MissingCapabilityError(SYS_ADMIN_ADVICE)
        self._watch_deaths = self._procfs.numbers_are_ours()
        found = scan(self._procfs, self._options.targets)
        self._follow(found)
        for address in sorted(map(str, self._options.targets - {envoy.instance_ip for envoy in found.envoys})):
            self._console.warn(
                f"no Envoy with INSTANCE_IP {address} yet: until there is, only the node sees its traffic"
            )
        if found.unreadable:
            self._console.warn(unexamined(found))
        self._next_scan = time.monotonic() + _SHORTEST_INTERVAL_S

    def _rescan(self) -> None:
        started = time.monotonic()
        try:
            found = scan(self._procfs, self._options.targets)
        except TapperError as error:
            self._console.warn_once(("scan", str(error)), f"{error}; what is open stays open")
        else:
            self._follow(found)
        now = time.monotonic()
        self._next_scan = now + max(_SHORTEST_INTERVAL_S, _SCAN_SHARE * (now - started))

    def _follow(self, found: Scan) -> None:
        """Open what is new, close what is certainly gone."""
        envoys: dict[NamespaceId, list[Envoy]] = {}
        for envoy in found.envoys:
            envoys.setdefault(envoy.netns, []).append(envoy)
            self._watch_process(envoy)
        for netns, group in envoys.items():
            opened = netns in self._sources or any(self._open_pod(envoy) for envoy in group)
            if opened:
                self._captures[netns].envoys = {envoy.pid for envoy in group}
        matched = {envoy.pid for envoy in found.envoys}
        for key, capture in self._captures.items():
            if key != _NODE and key not in envoys and not any(self._in_doubt(pid, found) for pid in capture.envoys):
                self._sources.shut(key)
        for pid in [pid for pid in self._pidfds if pid in found.seen and pid not in matched]:
            self._forget_process(pid)

    def _in_doubt(self, pid: int, found: Scan) -> bool:
        """Whether a former Envoy may still be one: it could not be read, or lives although the scan did not see it."""
        return pid in found.unreadable or (pid in self._pidfds and pid not in found.seen)

    def _still_is(self, envoy: Envoy) -> bool:
        exe = self._procfs.exe(envoy.pid)
        return exe is not None and is_envoy_path(exe) and self._procfs.netns(envoy.pid) == envoy.netns

    def _watch_process(self, envoy: Envoy) -> None:
        """Have the kernel tell of its death. Where process ids mean something else here, rescans have to do."""
        if not self._watch_deaths or envoy.pid in self._pidfds:
            return
        try:
            descriptor = os.pidfd_open(envoy.pid)
        except OSError as error:
            if not isinstance(error, ProcessLookupError):
                self._console.warn_once("pidfd", f"deaths are noticed by scanning only: {error.strerror}")
            return
        self._pidfds[envoy.pid] = descriptor
        self._sources.watch(descriptor, select.POLLIN, lambda: self._died(envoy.pid))

    def _died(self, pid: int) -> None:
        self._forget_process(pid)
        self._next_scan = time.monotonic()

    def _forget_process(self, pid: int) -> None:
        descriptor = self._pidfds.pop(pid)
        self._sources.unwatch(descriptor)
        os.close(descriptor)

    def _release(self) -> None:
        """Whatever way the run ends: let go of namespaces and processes. In good order nothing is left to do."""
        for source in self._sources:
            source.ring.close()
        for descriptor in self._pidfds.values():
            os.close(descriptor)
