"""Records of the BPF programs as the TCP segments that would have carried the plaintext. Pure.

A position in a stream becomes a sequence number, and the position in the other direction an acknowledgement number. So
a record that was lost is a gap of known size to `tapper.streams`, and requests and responses are never paired wrongly.
Every packet has its connection's true addresses and ports.

The index of a packet's interface is 2 * number of the library, plus 1 for what the process has received
(`tapper.streams.connection.Scope.libraries`).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tapper.capture.walk import Packets
from tapper.streams.packet import ACK, FIN, PSH, SYN, TCP, Packet
from tapper.streams.sequence import MASK
from tapper.uprobe.layout import HEAD, RECORD, RecordKind, Role

MOST_CONNECTIONS: Final = 16_384
"""Of one pod. The one that has been known longest is forgotten; its next record makes it known again."""
MOST_WAITING: Final = 1 << 20
"""Bytes of all records whose connection's ends are not known yet."""

_V4: Final = struct.Struct("!BBHHHBBH4s4s")
_V6: Final = struct.Struct("!IHBB16s16s")
_TCP: Final = struct.Struct("!HHIIHHHH")
_WINDOW_SCALE: Final = bytes((3, 3, 14, 0))
"""The largest window that there is (RFC 7323 section 2.3): a gap must not look like a segment outside of the window."""
_MAPPED: Final = bytes(10) + b"\xff\xff"  # an IPv4 address on an IPv6 socket (RFC 4291 section 2.5.5.2)
_LARGEST_GAP: Final = 1 << 25
"""Bytes. No receiver accepts a segment or an acknowledgement much further ahead (`tapper.streams.reassembly.FAR`)."""
_SETTINGS: Final = 4  # a frame's type (RFC 9113 section 6.5)


class Ends(NamedTuple):
    """A connection's ends: 4 or 16 bytes of address and a port, of the process and of its peer."""

    address: bytes
    port: int
    peer: bytes
    peer_port: int

    def mirrored(self) -> Ends:
        return Ends(self.peer, self.peer_port, self.address, self.port)


class _Record(NamedTuple):
    """A record of a connection."""

    ts: int
    """Nanoseconds since 1970."""
    kind: int
    library: int
    role: int
    position: int
    other: int
    data: bytes


@dataclass(slots=True, eq=False)
class _Connection:
    """A connection of a process."""

    born: int
    ends: Ends | None = None
    begun: bool = False
    """Whether it has had a packet."""
    copy: bool = False
    """Whether the process at its other end is in the same pod, and is read."""
    library: int = 0
    written: int = 0
    """Bytes that the process has sent, as far as is known, and received."""
    read: int = 0
    waiting: list[_Record] = field(default_factory=list)
    """Records from before the ends were known, or that wait for the plaintext of a write."""


class Segments:
    """The connections of one pod. `gone` is called with the number of a process that has ended."""

    def __init__(self, gone: Callable[[int], None] = lambda _: None) -> None:
        self._gone = gone
        self._processes: dict[int, dict[int, _Connection]] = {}
        """By the process, then by the address of the TLS object."""
        self._order: dict[tuple[int, int], None] = {}
        """The keys of all connections, the one first that has been known longest."""
        self._read: set[Ends] = set()
        """The connections that are reported. The same from the other end is a copy."""
        self._waiting = 0
        self._memory = bytearray()
        self._packets: list[Packet] = []
        self.lost = 0
        """Records that were left out since their connection's ends stayed unknown."""
        self.unreadable = 0
        """Records whose plaintext could not be read from the process's memory."""

    def packets(self) -> Packets:
        """The packets since the last call."""
        taken = bytes(self._memory), self._packets
        self._memory, self._packets = bytearray(), []
        return taken

    def take(self, raw: bytes | memoryview, shift: int) -> None:
        """One record. `shift` is what its time lacks to be nanoseconds since 1970."""
        (time, thread, ssl, born, position, other, length, kind, library, port, peer_port, family, role, address, peer,
         error) = RECORD.struct.unpack_from(raw)  # fmt: skip
        process = thread >> 32
        if kind == RecordKind.GONE:
            for each in list(self._processes.get(process, ())):
                self._forget(process, each, time + shift)
            self._gone(process)
            return
        # 1. The connection.
        connection = self._connection(process, ssl, born, time + shift)
        if connection.ends is None and family:
            self._meet(connection, _ends(family, address, port, peer, socket.ntohs(peer_port)))
        # 2. The plaintext. Without it the position of what comes next leaves a gap.
        if error:
            self.unreadable += 1
            return
        record = _Record(time + shift, kind, library, role, position, other, bytes(raw[HEAD : HEAD + length]))
        self._take(connection, record)
        if kind == RecordKind.END:
            self._drop(process, ssl, connection)

    def _take(self, connection: _Connection, record: _Record) -> None:
        """Say a record, or let it wait.

        A thread may read the peer's answer before the call has returned in which another thread has written the
        request. The answer then waits for the request's record, or for one that no write is under way at.
        """
        if connection.ends is None:
            if record.kind != RecordKind.END:
                self._wait(connection, record)
            return
        writing = record.role & Role.WRITING
        if record.kind == RecordKind.READ and writing and self._wait(connection, record):
            return
        if record.kind != RecordKind.WRITE:
            self._say_waiting(connection)
        elif connection.waiting:  # it acknowledges nothing that comes later
            record = record._replace(other=connection.waiting[0].position)
        self._say(connection, record)
        if not writing:
            self._say_waiting(connection)

    # Connections.

    def _connection(self, process: int, ssl: int, born: int, ts: int) -> _Connection:
        connections = self._processes.get(process)
        if connections is None:
            connections = self._processes[process] = {}
        connection = connections.get(ssl)
        if connection is not None and connection.born != born:  # the object's address is another connection's
            self._forget(process, ssl, ts)
            return self._connection(process, ssl, born, ts)
        if connection is None:
            connection = connections[ssl] = _Connection(born)
            self._order[process, ssl] = None
            if len(self._order) > MOST_CONNECTIONS:
                oldest = next(iter(self._order))
                self._drop(*oldest, self._processes[oldest[0]][oldest[1]])
        return connection

    def _meet(self, connection: _Connection, ends: Ends) -> None:
        """The ends are known: say what has waited."""
        connection.ends = ends
        connection.copy = ends.mirrored() in self._read
        if not connection.copy:
            self._read.add(ends)
        waiting, connection.waiting = connection.waiting, []
        for record in waiting:
            self._waiting -= len(record.data) + HEAD
            self._take(connection, record)

    def _wait(self, connection: _Connection, record: _Record) -> bool:
        """Let a record wait. False where that takes too much memory."""
        size = len(record.data) + HEAD
        if self._waiting + size > MOST_WAITING:
            self.lost += connection.ends is None
            return False
        self._waiting += size
        connection.waiting.append(record)
        return True

    def _say_waiting(self, connection: _Connection) -> None:
        waiting, connection.waiting = connection.waiting, []
        for record in waiting:
            self._waiting -= len(record.data) + HEAD
            self._say(connection, record)

    def _forget(self, process: int, ssl: int, ts: int) -> None:
        """A connection is over. What it carried after its last record is not known."""
        connection = self._processes[process][ssl]
        if connection.ends is not None:
            self._say_waiting(connection)
        if connection.begun:
            self._end(connection, ts)
        self._drop(process, ssl, connection)

    def _drop(self, process: int, ssl: int, connection: _Connection) -> None:
        connections = self._processes[process]
        del connections[ssl]
        del self._order[process, ssl]
        if not connections:
            del self._processes[process]
        self.lost += len(connection.waiting)
        self._waiting -= sum(len(record.data) + HEAD for record in connection.waiting)
        if connection.ends is not None and not connection.copy:
            self._read.discard(connection.ends)

    # Packets.

    def _say(self, connection: _Connection, record: _Record) -> None:
        """One record of a connection whose ends are known, or will not be."""
        if record.kind == RecordKind.END:
            connection.written, connection.read = record.position, record.other
            if connection.begun:
                self._end(connection, record.ts)
            return
        if connection.copy:
            return
        written, position = record.kind == RecordKind.WRITE, record.position
        known = (connection.written, connection.read) if written else (connection.read, connection.written)
        other = max(record.other, known[1])  # less where it waited for a write
        if connection.begun and max(position - known[0], other - known[1]) > _LARGEST_GAP:
            self._end(connection, record.ts)  # what follows is another connection to the streams
        if not connection.begun:
            connection.begun, connection.library = True, record.library
            if record.role & Role.FROM_START:
                self._begin(connection, record, client=_is_client(record))
        self._packet(connection, record.ts, written, position, other, ACK | PSH, record.data)
        mine = position + len(record.data)
        connection.written, connection.read = (mine, other) if written else (other, mine)

    def _begin(self, connection: _Connection, record: _Record, *, client: bool) -> None:
        """The handshake. Its numbers are one before those of the first bytes."""
        self._packet(connection, record.ts, client, -1, 0, SYN, b"")
        self._packet(connection, record.ts, not client, -1, 0, SYN | ACK, b"")

    def _end(self, connection: _Connection, ts: int) -> None:
        self._packet(connection, ts, True, connection.written, connection.read, FIN | ACK, b"")
        self._packet(connection, ts, False, connection.read, connection.written + 1, FIN | ACK, b"")

    def _packet(
        self, connection: _Connection, ts: int, sent: bool, position: int, other: int, flags: int, data: bytes
    ) -> None:
        """A segment that the process has sent, or received. Positions count from 0."""
        ends = connection.ends
        assert ends is not None, "a connection without ends has no packets"
        if not sent:
            ends = ends.mirrored()
        first = (connection.born >> 6) + 1  # a later connection between the same ends has other numbers
        options = _WINDOW_SCALE if flags & SYN else b""
        size = _TCP.size + len(options)
        acknowledged = first + other if flags & ACK else 0
        bits = size // 4 << 12 | flags
        header = _TCP.pack(
            ends.port, ends.peer_port, first + position & MASK, acknowledged & MASK, bits, 0xFFFF, 0, 0
        )  # fmt: skip
        length = size + len(data)
        begin = len(self._memory)
        if len(ends.address) == 4:
            self._memory += _V4.pack(0x45, 0, _V4.size + length, 0, 0, 64, TCP, 0, ends.address, ends.peer)
        else:
            self._memory += _V6.pack(6 << 28, length, TCP, 64, ends.address, ends.peer)
        self._memory += header + options + data
        self._packets.append((ts, 2 * connection.library + (not sent), begin, len(self._memory)))


def _ends(family: int, address: bytes, port: int, peer: bytes, peer_port: int) -> Ends:
    """Of a socket's addresses, which have 16 bytes. An IPv6 socket may speak IPv4."""
    if family == socket.AF_INET6 and address.startswith(_MAPPED) and peer.startswith(_MAPPED):
        return Ends(address[12:], port, peer[12:], peer_port)
    width = 4 if family == socket.AF_INET else 16
    return Ends(address[:width], port, peer[:width], peer_port)


def _is_client(record: _Record) -> bool:
    """Whether the process of a connection's first record is its client. Where its library did not tell, the client
    speaks first, but for an HTTP/2 server's SETTINGS."""
    if record.role & (Role.CLIENT | Role.SERVER):
        return bool(record.role & Role.CLIENT)
    settings = record.data[3:4] == bytes([_SETTINGS]) and record.data[5:9] == bytes(4)
    return (record.kind == RecordKind.WRITE) is not settings
