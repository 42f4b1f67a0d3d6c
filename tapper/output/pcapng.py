"""Packets as a pcapng file (draft-ietf-opsawg-pcapng): blocks in, bytes out.

Everything is little-endian. One interface stands for one source, its packets begin at the IP header (LINKTYPE_RAW), and
its clock counts nanoseconds. Packets are written as they were captured: to redact one would be to forge it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tapper.output.records import Place, Stat
from tapper.protocols.records import Record
from tapper.streams.connection import Scope
from tapper.streams.connections import Connections
from tapper.streams.packet import Packet

SECTION_HEADER, INTERFACE, ENHANCED_PACKET, STATISTICS = 0x0A0D0D0A, 1, 6, 5
BYTE_ORDER = 0x1A2B3C4D
LINKTYPE_RAW = 101
NANOSECONDS = 9  # if_tsresol: the power of ten
# Option codes; 1 is a comment everywhere, 0 the end of a list.
SHB_USERAPPL, IF_NAME, IF_DESCRIPTION, IF_TSRESOL, ISB_ENDTIME, ISB_IFRECV, ISB_IFDROP = 4, 2, 3, 9, 3, 4, 5

_WORD = struct.Struct("<I")
_PACKET_HEAD = struct.Struct("<IIIIIII")  # block type and length, then interface, time high and low, captured, original
_UNKNOWN_LENGTH = -1  # of a section: it goes on until the file ends


def _block(kind: int, body: bytes) -> bytes:
    """A block's length stands before and after its body."""
    length = _WORD.pack(len(body) + 12)
    return _WORD.pack(kind) + length + body + length


def _options(*options: tuple[int, bytes]) -> bytes:
    """Options, each padded to 32 bits, and their end."""
    packed = [struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4) for code, value in options]
    return b"".join(packed) + bytes(4)


def section_header(application: str) -> bytes:
    """What a file begins with."""
    fixed = struct.pack("<IHHq", BYTE_ORDER, 1, 0, _UNKNOWN_LENGTH)
    return _block(SECTION_HEADER, fixed + _options((SHB_USERAPPL, application.encode())))


def interface(name: str, description: str) -> bytes:
    """An interface. They are numbered from 0 in the order in which they are written; its packets come after it."""
    described = _options(
        (IF_NAME, name.encode()), (IF_DESCRIPTION, description.encode()), (IF_TSRESOL, bytes([NANOSECONDS]))
    )
    return _block(INTERFACE, struct.pack("<HHI", LINKTYPE_RAW, 0, 0) + described)


def packet(number: int, ts: int, data: bytes) -> bytes:
    """One IP packet; `ts` in nanoseconds since 1970. The original length is what the IP header says, if that is
    more."""
    padding = -len(data) % 4
    length = _PACKET_HEAD.size + len(data) + padding + 4
    head = _PACKET_HEAD.pack(
        ENHANCED_PACKET, length, number, ts >> 32, ts & 0xFFFF_FFFF, len(data), max(len(data), _stated_length(data))
    )
    return b"".join((head, data, bytes(padding), _WORD.pack(length)))


def statistics(number: int, ts: int, stat: Stat) -> bytes:
    """What became of an interface's packets, as of `ts` in nanoseconds since 1970."""
    options = _options(
        (ISB_ENDTIME, struct.pack("<II", ts >> 32, ts & 0xFFFF_FFFF)),
        (ISB_IFRECV, struct.pack("<Q", stat.received)),
        (ISB_IFDROP, struct.pack("<Q", stat.dropped)),
    )
    return _block(STATISTICS, struct.pack("<III", number, ts >> 32, ts & 0xFFFF_FFFF) + options)


def _stated_length(data: bytes) -> int:
    """The length in the IP header (RFC 791 section 3.1, RFC 8200 section 3); 0 where there is none."""
    if len(data) < 6:
        return 0
    return int.from_bytes(data[2:4], "big") if data[0] >> 4 == 4 else 40 + int.from_bytes(data[4:6], "big")


def _concerns(scope: Scope, data: bytes) -> bool:
    """Whether a source with this scope may report the packet: exactly, since the kernel's filter may be wider."""
    if scope.targets is None:
        return True
    start, width = (12, 4) if data[0] >> 4 == 4 else (8, 16)
    ends = data[start : start + 2 * width]
    return ends[:width] in scope.targets or ends[width:] in scope.targets


@dataclass(slots=True)
class Recording:
    """A `tapper.capture.sources.Reader` that keeps packets for the file before the streams get them."""

    connections: Connections[Record]
    number: int
    pending: list[bytes]

    def packets(self, memory: bytes, found: list[Packet], made: list[Record]) -> None:
        for ts, _, start, stop in found:
            data = memory[start:stop]
            if _concerns(self.connections.scope, data):
                self.pending.append(packet(self.number, ts, data))
        self.connections.packets(memory, found, made)

    def finish(self) -> list[Record]:
        return self.connections.finish()


class Recorder:
    """The file's bytes as they become known: whoever writes calls `take`."""

    def __init__(self, application: str) -> None:
        self._pending = [section_header(application)]
        self._numbers: dict[tuple[str, int | None, str, str | None], int] = {}
        self._count = 0

    def record(self, place: Place, connections: Connections[Record]) -> Recording:
        """A new interface, named `10.244.0.3 lo` after its pod, or `node any`."""
        self._numbers[place.identity] = number = self._count
        self._count += 1
        self._pending.append(interface(f"{place.instance_ip or place.kind} {place.interface}", str(place)))
        return Recording(connections, number, self._pending)

    def close(self, place: Place, ts: int, stat: Stat) -> None:
        """No more packets will come from there; `ts` in nanoseconds since 1970."""
        self._pending.append(statistics(self._numbers.pop(place.identity), ts, stat))

    def take(self) -> bytes:
        """What is to be written now."""
        taken = b"".join(self._pending)
        self._pending.clear()
        return taken
