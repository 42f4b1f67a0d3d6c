"""`tapper tap -r FILE`: reads a capture file with the same streams and protocols as a live capture. One packet's way:

    file -> interface -> stream -> protocol -> record -> writer

It needs no privilege. An interface whose name the tapper itself derived from a pod (`10.244.0.3 lo`) is that pod's lo,
with its asymmetric leg. On any other lo (`lo`, `shop lo`) the halves of redirected connections are paired, too, and a
leg's pod is the end that is no loopback address. All other interfaces are a node's: both directions of a connection
mirror each other, and a connection may cross several interfaces.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

from tapper.capture.file import MOST_INTERFACES, CaptureFile, FilePacket
from tapper.errors import CaptureFileError, MissingPackageError, UsageError, explain
from tapper.output.records import Place, Stat
from tapper.protocols.records import Record
from tapper.run.accounts import Account
from tapper.run.writer import RecordWriter
from tapper.streams.connection import Scope
from tapper.targets.addresses import Address, packed, parse_address

_CHECKED_EVERY = 1024  # packets


@contextmanager
def open_capture(path: str, output: str | None) -> Iterator[BufferedIOBase]:
    """The file, or standard input for "-". Raises UsageError if it cannot be read, or is the output file."""
    try:
        if path == "-":
            opened = os.dup(sys.stdin.fileno())
        else:
            with Path(path).open("rb") as named:
                if output not in (None, "-") and Path(output).exists() and Path(output).samefile(path):
                    raise UsageError(f"{path} is to be read and to be written: name two files (-r, -w)")
                opened = os.dup(named.fileno())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {explain(error)} (-r)") from error
    with os.fdopen(opened, "rb") as stream:
        yield stream


@dataclass(slots=True)
class _FileInterface:
    """An interface of the file: one source."""

    account: Account
    received: int = 0
    dropped: int = 0
    cut: int = 0


class Replay:
    """One run over a file. Without targets, everything in the file is reported."""

    def __init__(self, targets: frozenset[Address], writer: RecordWriter) -> None:
        self._targets = targets
        self._writer = writer
        self._interfaces: dict[str, _FileInterface | None] = {}  # by the names in the file
        self._sources: dict[tuple[object, ...], _FileInterface] = {}  # by `Place.identity`
        self._node: Account | None = None  # of the first interface that is no lo
        self._ts = 0

    def run(self, stream: BufferedIOBase, name: str) -> None:
        """Read to the end. Raises CaptureFileError if the file is damaged, and MissingPackageError if this Python
        cannot decompress it. Then, and after KeyboardInterrupt, everything that came before is reported."""
        file = CaptureFile(stream, name, self._writer.flush)
        self._writer.gather()
        self._writer.begin()
        try:
            for count, packet in enumerate(file.packets()):
                self._take(packet)
                if count % _CHECKED_EVERY == 0:
                    accounts = [source.account for source in self._sources.values()]
                    self._writer.stay_within_bounds(accounts, self._writer.deliver)
        except (OSError, CaptureFileError, MissingPackageError, KeyboardInterrupt) as error:
            self._end(file)
            if isinstance(error, OSError):
                raise CaptureFileError(f"cannot read {name} to its end: {explain(error)} (-r)") from error
            raise
        self._end(file)

    def _take(self, packet: FilePacket) -> None:
        interface = self._find(packet.interface)
        if interface is None:
            return
        self._ts = packet.ts
        interface.received += 1
        interface.cut += packet.cut
        account = interface.account
        if packet.other:
            account.connections.tally.pass_over(packet.other)
            return
        records: list[Record] = []
        account.reader.packets(packet.data, [(packet.ts, packet.interface_index, 0, len(packet.data))], records)
        if records:
            self._writer.deliver(account, records)

    def _find(self, name: str) -> _FileInterface | None:
        if name not in self._interfaces:
            if len(self._interfaces) == MOST_INTERFACES:
                raise CaptureFileError(f"more than {MOST_INTERFACES} names of interfaces are damage (-r)")
            self._interfaces[name] = self._open(name)
        return self._interfaces[name]

    def _open(self, name: str) -> _FileInterface | None:
        """The source of an interface; two names may mean the same one, such as two spellings of a pod's address. None
        if the interface is a pod's that is no target."""
        pod = _pod_of(name)
        if pod is not None and self._targets and pod not in self._targets:
            return None
        if pod is not None:
            place, scope = Place("file", None, "lo", instance_ip=str(pod)), Scope(str(pod), None)
        else:
            targets = packed(self._targets) if self._targets else None
            place, scope = Place("file", None, name or "all"), Scope(None, targets, some_lo=_is_lo(name))
        source = self._sources.get(place.identity)
        if source is None:
            account = self._writer.open(place, scope, None if scope.on_lo else self._node)
            if not scope.on_lo:
                self._node = self._node or account
            self._writer.opened(account)
            source = self._sources[place.identity] = _FileInterface(account)
        return source

    def _end(self, file: CaptureFile) -> None:
        for name, lost in (+file.dropped).items():
            interface = self._find(name)  # it may have lost every packet
            if interface is not None:
                interface.dropped += lost
        for source in self._sources.values():
            account = source.account
            for records in account.reader.finish():
                if records:
                    self._writer.deliver(account, records)
            self._writer.close(account, self._ts, Stat(source.received, source.dropped, source.cut))
        self._writer.end()
        self._writer.flush()


def _pod_of(interface: str) -> Address | None:
    """The pod whose lo the interface is, if `tapper.output.pcapng` named it."""
    address, _, device = interface.rpartition(" ")
    if device != "lo":
        return None
    try:
        return parse_address(address)
    except ValueError:
        return None


def _is_lo(interface: str) -> bool:
    """Whether the interface is a lo: `lo`, as tcpdump(1) names it, or a name and `lo`."""
    return interface.rpartition(" ")[2] == "lo"
