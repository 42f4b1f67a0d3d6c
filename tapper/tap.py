"""`tapper tap`: the life of the sources, and the wiring of one packet's way.

    ring -> source (namespace, pod) -> stream -> protocol -> exchange -> output

Which pods' sources there are is `tapper.following`'s affair.
"""

from __future__ import annotations

import functools
import os
import select
import time
from collections.abc import Hashable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

from tapper import __version__
from tapper.capture import bpf
from tapper.capture.ring import Ring, Statistics, open_ring
from tapper.capture.sources import Reader, Source, Sources
from tapper.discovery.finders import Finder
from tapper.discovery.netns import own_namespace
from tapper.discovery.procfs import Procfs
from tapper.errors import UsageError
from tapper.following import Follower
from tapper.held import POLL_S, Held
from tapper.output.pcapng import Recorder
from tapper.output.records import Format, Place, Stat, Totals
from tapper.output.shape import Shape
from tapper.output.sink import Closed, Console, Sink
from tapper.protocols.beneath import Beneath, Peek
from tapper.protocols.detect import Kind
from tapper.protocols.facts import Note
from tapper.protocols.messages import BODY_LIMIT
from tapper.protocols.session import Session, Sighting
from tapper.signals import ReloadSignal, StopSignals
from tapper.streams.connection import Connection, Scope
from tapper.streams.connections import Connections
from tapper.targets.addresses import Address, packed
from tapper.targets.file import TargetsFile
from tapper.targets.pods import Targets

_NODE = "node"
_LOOPBACK_INDEX = 1  # LOOPBACK_IFINDEX, include/net/net_namespace.h: the same in every namespace
_FOREVER_S = 3600.0
_SECOND_NS = 1_000_000_000
_GLANCE_INTERVAL_S = 0.25
_HELD_BYTES = 256 << 20  # by all sources together


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
    targets_file: str | None = None
    """Whose targets come on top."""
    body_limit: int = BODY_LIMIT


@dataclass(slots=True)
class _Capture:
    """What belongs to a source besides its ring."""

    place: Place
    connections: Connections[Sighting]


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
        self._own = own_namespace()
        self._sources: Sources[Sighting] = Sources()
        self._captures: dict[object, _Capture] = {}
        self._follower: Follower | None = None
        self._file = None if options.targets_file is None else TargetsFile(options.targets_file)
        self._reload = ReloadSignal()
        self._next_glance = 0.0
        self._targets = Targets(options.targets)
        self._unacknowledged: int | None = None
        self._ending = False
        self._totals = Totals()
        self._held: Held | None = None  # what was seen in pods and waits for the wire
        self._last_words: list[tuple[Place, Stat]] = []  # of pods' sources, once the run ends

    def run(self) -> None:
        """Capture until told to stop. Raises TapperError for what makes it impossible from the start."""
        with ExitStack() as stack:
            stack.callback(self._release)
            signals = stack.enter_context(StopSignals())
            self._sources.watch(signals.fileno(), select.POLLIN, signals.clear)
            self._sources.watch(self._output.fileno(), 0, self._output_closed)
            if self._file is not None:
                stack.enter_context(self._reload)
                self._name_targets(self._file.read())
            self._emit(self._form.hello(__version__, os.getpid()))
            self._open_node()
            if self._options.istio:
                self._begin_following()
            self._acknowledge()
            while not signals.asked:
                self._turn()
                if signals.report:
                    signals.report = False
                    self._report_so_far()
            self._end()
        self._report()

    def _turn(self) -> None:
        wake = time.monotonic() + _FOREVER_S
        if self._file is not None:
            self._glance(self._file)
            wake = self._next_glance
        follower = self._follower
        if follower is not None:
            if time.monotonic() >= follower.next_look and follower.look():
                self._acknowledge()
            wake = min(wake, follower.next_look)
        patience = POLL_S if self._held else wake - time.monotonic()
        self._sources.turn(min(patience, wake - time.monotonic()), self._deliver, self._trouble, self._closed)
        self._release_held()
        self._stay_within_bounds()

    def _end(self) -> None:
        self._ending = True
        for source in self._sources:
            self._sources.shut(source.key)
        while len(self._sources):
            self._sources.turn(_FOREVER_S, self._deliver, self._trouble, self._closed)
        if self._held is not None:
            self._held.wire_read((), time.time_ns() + _SECOND_NS)  # no more will come of the wire
            self._say(self._held.ready(everything=True))
        for place, stat in self._last_words:
            self._say_closed(place, stat)

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
        capture, held = self._captures[source.key], self._held
        if source.key == _NODE:
            seen = list(sightings)
            self._say((capture.place, sighting) for sighting in seen)
            if held is not None:
                held.wire_read(seen, capture.connections.newest)
        elif held is not None:
            for sighting in sightings:
                held.put(source.key, capture.place, capture.connections, sighting)
        if self._recorder is not None:
            self._output.write_bytes(self._recorder.take())

    def _say(self, seen: Iterable[tuple[Place, Sighting | Note]]) -> None:
        """Report what passes the filters, in order."""
        lines: list[str] = []
        for place, it in seen:
            if isinstance(it, Note):
                note = self._shape.note(it)
                lines += [] if note is None else [self._form.note(place, note)]
            else:
                lines += [self._form.sighting(place, shown) for shown in self._shape.apply((it,), self._totals)]
        if lines:
            self._emit("".join(lines))

    def _release_held(self) -> None:
        if self._held:
            self._say(self._held.ready())

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
        if self._follower is not None:
            self._follower.next_look = time.monotonic()  # another Envoy may have begun there meanwhile
        if source.key != _NODE and self._held is not None:
            if self._ending:
                self._last_words.append((capture.place, stat))
                return
            self._say(self._held.of(source.key))
        self._say_closed(capture.place, stat)

    def _say_closed(self, place: Place, stat: Stat) -> None:
        self._emit(self._form.source("closed", place) + self._form.stat(place, stat))
        self._console.progress(f"closed {place}")

    def _output_closed(self) -> None:
        raise Closed

    def _emit(self, text: str) -> None:
        self._output.write(text)

    # Sources.

    def _open_node(self) -> None:
        targets = packed(self._targets.addresses)
        ring = open_ring(self._options.interface, bpf.program(targets))
        place = Place("node", self._own.inode, self._options.interface or "any")
        self._add(_NODE, ring, place, Scope(None, targets))
        self._held = Held(Beneath(self._captures[_NODE].connections))

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
        )
        self._follower = follower  # which is released whatever happens in its first look
        follower.begin()

    def _add(self, key: object, ring: Ring, place: Place, scope: Scope) -> None:
        place = replace(place, pods=self._targets.names)
        opening = functools.partial(self._open_session, key)
        connections: Connections[Sighting] = Connections(scope, opening, peek=Peek)
        self._captures[key] = _Capture(place, connections)
        reader: Reader[Sighting] = connections
        if self._recorder is not None:
            reader = self._recorder.record(place, connections)
            self._output.write_bytes(self._recorder.take())
        self._sources.add(Source(key, ring, reader))
        self._totals.sources += 1
        self._leave_lo_to_pods()
        self._emit(self._form.source("open", place))
        self._console.progress(f"capturing {place}")

    def _drop(self, key: Hashable) -> None:
        if self._held is not None:
            self._held.drop(key)
        self._sources.discard(key, self._closed)

    def _open_session(self, key: object, connection: Connection[Sighting]) -> Session:
        notice = functools.partial(self._notice, key)
        return Session(connection, self._count_undecoded, notice, self._options.body_limit)

    def _notice(self, key: object, note: Note) -> None:
        capture = self._captures[key]
        if key == _NODE or self._held is None:
            self._say([(capture.place, note)])
        else:
            self._held.put(key, capture.place, capture.connections, note)

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

    # Targets.

    def _glance(self, file: TargetsFile) -> None:
        """See whether the file is another one. A bad one changes nothing, and is complained about once."""
        if not self._reload.asked:
            if time.monotonic() < self._next_glance:
                return
            self._next_glance = time.monotonic() + _GLANCE_INTERVAL_S
            if not file.changed():
                return
        self._reload.asked = False
        try:
            self._name_targets(file.read())
        except UsageError as error:
            self._console.warn(f"{error}; the targets stay as they were")
            return
        self._retarget()

    def _name_targets(self, named: Targets) -> None:
        self._targets = replace(named, addresses=named.addresses | self._options.targets)
        self._unacknowledged = named.generation

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

    def _acknowledge(self) -> None:
        """The sources are what the list of this generation asks for."""
        if self._unacknowledged is not None:
            self._emit(self._form.ack(self._unacknowledged))
            self._unacknowledged = None

    def _release(self) -> None:
        """Whatever way the run ends: let go of namespaces and processes. In good order nothing is left to do."""
        for source in self._sources:
            source.ring.close()
        if self._follower is not None:
            self._follower.release()
