"""`tapper tap -r FILE`: what a capture file holds, through the same streams and protocols as a live capture.

    file -> interface -> stream -> protocol -> exchange -> output

It needs no privilege. An interface that the tapper itself named after a pod (`10.244.0.3 lo`) is that pod's lo again,
asymmetric leg and all; in any other file both directions of a connection have to mirror each other.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tapper import __version__
from tapper.capture.file import CaptureFile, FilePacket
from tapper.capture.sources import Reader
from tapper.errors import CaptureFileError, UsageError, explain
from tapper.output.pcapng import Recorder
from tapper.output.records import Format, Place, Stat, Totals
from tapper.output.shape import Shape
from tapper.output.sink import Console, Sink
from tapper.protocols.detect import Kind
from tapper.protocols.facts import Note
from tapper.protocols.session import Session, Sighting
from tapper.streams.connection import Connection, Scope
from tapper.streams.connections import Connections
from tapper.targets.addresses import Address, packed, parse_address

_HELD_BYTES = 256 << 20  # by all interfaces together
_CHECKED_EVERY = 1024  # packets


@contextmanager
def open_capture(path: str, output: str | None) -> Iterator[BinaryIO]:
    """The file, or standard input for "-". Raises UsageError, also where it is the file that is to be written."""
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(path).open("rb") as stream:
            if output not in (None, "-") and Path(output).exists() and Path(output).samefile(path):
                raise UsageError(f"{path} is to be read and to be written: name two files (-r, -w)")
            opened = os.dup(stream.fileno())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {explain(error)} (-r)") from error
    with os.fdopen(opened, "rb") as stream:
        yield stream


class _Interface:
    """One of the file's interfaces, as a source."""

    __slots__ = ("connections", "place", "reader", "stat")

    def __init__(self, place: Place, connections: Connections[Sighting], reader: Reader[Sighting]) -> None:
        self.place = place
        self.connections = connections
        self.reader = reader
        self.stat = Stat(0, 0)


class Replay:
    """One run over a file. No targets means everything in it."""

    def __init__(
        self,
        targets: frozenset[Address],
        body_limit: int,
        output: Sink,
        form: Format,
        console: Console,
        shape: Shape,
        recorder: Recorder | None = None,
    ) -> None:
        self._targets = targets
        self._body_limit = body_limit
        self._output = output
        self._form = form
        self._console = console
        self._shape = shape
        self._recorder = recorder
        self._interfaces: dict[str, _Interface | None] = {}
        self._totals = Totals()
        self._ts = 0

    def run(self, stream: BinaryIO, name: str) -> None:
        """Read to the end. Raises CaptureFileError where the file is damaged, when all that came before is out; so is
        it after KeyboardInterrupt."""
        file = CaptureFile(stream, name)
        self._output.write(self._form.hello(__version__, os.getpid()))
        try:
            for count, packet in enumerate(file.packets()):
                self._take(packet)
                if count % _CHECKED_EVERY == 0:
                    self._stay_within_bounds()
        except OSError as error:
            self._end(file)
            raise CaptureFileError(f"cannot read {name} to its end: {explain(error)} (-r)") from error
        except (CaptureFileError, KeyboardInterrupt):
            self._end(file)
            raise
        self._end(file)

    def _take(self, packet: FilePacket) -> None:
        if packet.interface not in self._interfaces:
            self._interfaces[packet.interface] = self._open(packet.interface)
        interface = self._interfaces[packet.interface]
        if interface is None:
            return
        self._ts = packet.ts
        stat = interface.stat
        interface.stat = Stat(stat.received + 1, 0, stat.cut + packet.cut)
        self._deliver(interface, interface.reader.packet(packet.ts, memoryview(packet.data)))

    def _open(self, name: str) -> _Interface | None:
        """None for a pod's that is no target."""
        pod = _pod_of(name)
        if pod is not None and self._targets and pod not in self._targets:
            return None
        targets = packed(self._targets) if self._targets and pod is None else None
        scope = Scope(None if pod is None else str(pod), targets)
        place = Place("file", None, name or "all") if pod is None else Place("file", None, "lo", instance_ip=str(pod))
        connections: Connections[Sighting] = Connections(scope, functools.partial(self._open_session, place))
        recorder = self._recorder
        reader = connections if recorder is None else recorder.record(place, connections)
        self._totals.sources += 1
        self._output.write(self._form.source("open", place))
        return _Interface(place, connections, reader)

    def _open_session(self, place: Place, connection: Connection[Sighting]) -> Session:
        return Session(connection, self._count_undecoded, functools.partial(self._notice, place), self._body_limit)

    def _notice(self, place: Place, note: Note) -> None:
        shown = self._shape.note(note)
        if shown is not None:
            self._output.write(self._form.note(place, shown))

    def _count_undecoded(self, kind: Kind) -> None:
        self._totals.undecoded[kind] = self._totals.undecoded.get(kind, 0) + 1

    def _deliver(self, interface: _Interface, sightings: list[Sighting]) -> None:
        if sightings:
            shown = self._shape.apply(sightings, self._totals)
            self._output.write("".join(self._form.sighting(interface.place, sighting) for sighting in shown))
        if self._recorder is not None:
            self._output.write_bytes(self._recorder.take())

    def _stay_within_bounds(self) -> None:
        read = [interface for interface in self._interfaces.values() if interface is not None]
        if sum(interface.connections.held for interface in read) > _HELD_BYTES:
            largest = max(read, key=lambda interface: interface.connections.held)
            self._deliver(largest, largest.connections.relieve(largest.connections.held // 2))

    def _end(self, file: CaptureFile) -> None:
        for interface in self._interfaces.values():
            if interface is None:
                continue
            self._deliver(interface, interface.reader.finish())
            self._totals.add(interface.stat, interface.connections.tally)
            if self._recorder is not None:
                self._recorder.close(interface.place, self._ts, interface.stat)
            self._output.write(self._form.source("closed", interface.place))
            self._output.write(self._form.stat(interface.place, interface.stat))
        if self._recorder is not None:
            self._output.write_bytes(self._recorder.take())
        totals = self._totals
        whole = Stat(totals.received, totals.dropped, totals.cut)
        self._output.write(self._form.stat(None, whole) + self._form.bye(totals))
        self._console.summary(totals)
        for link_type, passed in sorted(file.passed_over.items()):
            self._console.warn(f"link type {link_type} is not known: {passed} packets were passed over (-r)")


def _pod_of(interface: str) -> Address | None:
    """The pod after which `tapper.output.pcapng` named an interface."""
    address, _, device = interface.partition(" ")
    if device != "lo":
        return None
    try:
        return parse_address(address)
    except ValueError:
        return None
