"""Packets as a pcapng file (draft-ietf-opsawg-pcapng): blocks in, bytes out.

All numbers are little-endian. Each source has an interface of its own, whose packets begin at the IP header
(LINKTYPE_RAW) and whose timestamps are nanoseconds. Packets are written as they were captured: a redacted packet would
be a forged one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tapper.output.records import Place, Stat
from tapper.protocols.records import Record
from tapper.streams.connection import Scope
from tapper.streams.connections import Connections
from tapper.streams.decapsulation import innermost_ends
from tapper.streams.packet import Packet

SECTION_HEADER, INTERFACE, ENHANCED_PACKET, STATISTICS = 0x0A0D0D0A, 1, 6, 5
BYTE_ORDER = 0x1A2B3C4D
LINKTYPE_RAW = 101
NANOSECONDS = 9  # if_tsresol: the negative power of ten
# Option codes. In every block 1 is a comment, and 0 the end of the options.
SHB_USERAPPL, IF_NAME, IF_DESCRIPTION, IF_TSRESOL, ISB_ENDTIME, ISB_IFRECV, ISB_IFDROP = 4, 2, 3, 9, 3, 4, 5

_WORD = struct.Struct("<I")
_PACKET_HEAD = struct.Struct("<IIIIIII")  # block type and length, then interface, time high and low, captured, original
_UNKNOWN_LENGTH = -1  # of a section: it ends with the file


def _block(kind: int, body: bytes) -> bytes:
    """A block. Its length in octets stands before and after its body."""
    length = _WORD.pack(len(body) + 12)
    return _WORD.pack(kind) + length + body + length


def _options(*options: tuple[int, bytes]) -> bytes:
    """Options, each padded to 32 bits, and the end of the options."""
    packed = [struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4) for code, value in options]
    return b"".join(packed) + bytes(4)


def section_header(application: str) -> bytes:
    """The first block of a file."""
    fixed = struct.pack("<IHHq", BYTE_ORDER, 1, 0, _UNKNOWN_LENGTH)
    return _block(SECTION_HEADER, fixed + _options((SHB_USERAPPL, application.encode())))


def interface(name: str, description: str) -> bytes:
    """An interface. Interfaces are numbered from 0, in the order of these blocks. Their packets come later."""
    described = _options(
        (IF_NAME, name.encode()), (IF_DESCRIPTION, description.encode()), (IF_TSRESOL, bytes([NANOSECONDS]))
    )
    return _block(INTERFACE, struct.pack("<HHI", LINKTYPE_RAW, 0, 0) + described)


def packet(number: int, ts: int, data: bytes) -> bytes:
    """An IP packet of the interface with this number. `ts` is in nanoseconds since 1970.

    Its original length is the length in the IP header, if that is greater than the captured length.
    """
    padding = -len(data) % 4
    length = _PACKET_HEAD.size + len(data) + padding + 4
    head = _PACKET_HEAD.pack(
        ENHANCED_PACKET, length, number, ts >> 32, ts & 0xFFFF_FFFF, len(data), max(len(data), _stated_length(data))
    )
    return b"".join((head, data, bytes(padding), _WORD.pack(length)))


def statistics(number: int, ts: int, stat: Stat) -> bytes:
    """The packets of an interface that were received and dropped until `ts`, in nanoseconds since 1970."""
    options = _options(
        (ISB_ENDTIME, struct.pack("<II", ts >> 32, ts & 0xFFFF_FFFF)),
        (ISB_IFRECV, struct.pack("<Q", stat.received)),
        (ISB_IFDROP, struct.pack("<Q", stat.dropped)),
    )
    return _block(STATISTICS, struct.pack("<III", number, ts >> 32, ts & 0xFFFF_FFFF) + options)


def _stated_length(data: bytes) -> int:
    """The length in the IP header (RFC 791 section 3.1, RFC 8200 section 3); 0 if the header is cut off."""
    if len(data) < 6:
        return 0
    return int.from_bytes(data[2:4], "big") if data[0] >> 4 == 4 else 40 + int.from_bytes(data[4:6], "big")


def _is_in_scope(scope: Scope, data: bytes) -> bool:
    """True if the source may report what is in this packet. The kernel's filter may let other packets pass as well."""
    ends = innermost_ends(data, 0, len(data))
    width = len(ends) // 2
    if not ends or scope.targets is None:
        return bool(ends)
    return ends[:width] in scope.targets or ends[width:] in scope.targets


@dataclass(slots=True)
class Recording:
    """A `tapper.capture.source.PacketReader` that puts packets into the file, and passes them on to the streams."""

    connections: Connections[Record]
    number: int
    pending: list[bytes]

    def packets(self, memory: bytes, packets: list[Packet], records: list[Record]) -> None:
        for ts, _, start, stop in packets:
            data = memory[start:stop]
            if _is_in_scope(self.connections.scope, data):
                self.pending.append(packet(self.number, ts, data))
        self.connections.packets(memory, packets, records)

    def finish(self) -> Iterator[list[Record]]:
        return self.connections.finish()


class Recorder:
    """Makes the blocks of a file. The writer fetches them by `take`."""

    def __init__(self, application: str) -> None:
        self._pending = [section_header(application)]
        self._numbers: dict[tuple[str, int | None, str, str | None], int] = {}
        self._count = 0

    def record(self, place: Place, connections: Connections[Record]) -> Recording:
        """A new interface: `10.244.0.3 lo` for a pod's source, `node any` for the node's."""
        self._numbers[place.identity] = number = self._count
        self._count += 1
        self._pending.append(interface(f"{place.instance_ip or place.kind} {place.interface}", str(place)))
        return Recording(connections, number, self._pending)

    def close(self, place: Place, ts: int, stat: Stat) -> None:
        """The source is closed; `ts` in nanoseconds since 1970."""
        self._pending.append(statistics(self._numbers.pop(place.identity), ts, stat))

    def take(self) -> bytes:
        """The bytes to write now."""
        taken = b"".join(self._pending)
        self._pending.clear()
        return taken
