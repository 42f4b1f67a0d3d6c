"""Reads packets from a capture file: pcap (draft-ietf-opsawg-pcap) or pcapng (draft-ietf-opsawg-pcapng), in either byte
order, also compressed.

A file may come from anywhere. Every length is checked before it is used. Damage ends the reading with an error of one
sentence, after the packets before it.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BufferedIOBase
from typing import NamedTuple

from tapper.capture.compressed import decompressed
from tapper.capture.link import LINUX_SLL, LINUX_SLL2, ip_packet
from tapper.errors import CaptureFileError

LONGEST_BLOCK = 16 << 20
"""Bytes of a block or record. The longest packet that Linux makes on lo has 65,549 bytes."""
MOST_INTERFACES = 4096

_LINK_TYPE = 0x03FF_FFFF  # the upper bits of the field are about frame check sequences, which IP's length cuts off
_LONGEST_NAME = 256  # characters of an interface's name; what is longer is cut
_AT_ONCE = 256 << 10  # bytes read from the file
_PCAP_UNITS = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}  # magic number: nanoseconds in a unit of time
_SECTION_HEADER, _INTERFACE, _PACKET, _SIMPLE_PACKET, _STATISTICS, _ENHANCED_PACKET = 0x0A0D0D0A, 1, 2, 3, 5, 6
_SECTION_MAGIC = _SECTION_HEADER.to_bytes(4, "big")  # the same in both byte orders
_BYTE_ORDER = 0x1A2B3C4D
_IF_NAME, _IF_TSRESOL, _IF_TSOFFSET = 2, 9, 14
_ISB_IFDROP, _ISB_OSDROP = 5, 7
_LATEST = 1 << 63  # nanoseconds since 1970: in the year 2262
_ENDS_WITHIN = "the file ends within a packet or block"


class FilePacket(NamedTuple):
    """One packet."""

    ts: int
    """Nanoseconds since 1970."""
    interface: str
    """Its name in a pcapng file; empty where there is none."""
    data: bytes
    """The captured bytes from the IP header on; empty if it is no IP packet."""
    cut: bool
    """Whether the packet had more bytes."""
    interface_index: int
    """Tells apart interfaces whose packets have the same `interface`; 0 where that is not known."""
    other: str = ""
    """The name of its protocol if it is no IP packet."""


@dataclass(frozen=True, slots=True)
class _Interface:
    link_type: int
    number: int = 1
    """Its place in its section, from 1 on."""
    snap_length: int = 0
    name: str = ""
    unit: tuple[int, int] = (1000, 1)
    """Nanoseconds in a unit of time, as a fraction."""
    offset_s: int = 0
    """Seconds to add to each time."""
    lost: list[int] = field(default_factory=lambda: [0, 0])
    """The latest isb_ifdrop and isb_osdrop. They count from the beginning of the capture."""

    def ts(self, units: int) -> int:
        return units * self.unit[0] // self.unit[1] + self.offset_s * 1_000_000_000


class CaptureFile:
    """A file that is read once, from its beginning. It need not be seekable. `name` is for messages. `before_read` is
    called before each read, which may wait for a writer if the file is a pipe."""

    def __init__(self, stream: BufferedIOBase, name: str, before_read: Callable[[], None] = lambda: None) -> None:
        self._stream = stream
        self._name = name
        self._before_read = before_read
        self._buffer = b""
        self._at = 0
        self._order = "<"
        self._ts = 0
        self.dropped: Counter[str] = Counter()
        """Packets that the file's writer says it has lost (isb_ifdrop, isb_osdrop), by the interface's name."""

    def packets(self) -> Iterator[FilePacket]:
        """The packets, but for the second copies of loopback frames. Raises CaptureFileError where the file is damaged,
        ends too early, or has another format; and as `decompressed`."""
        self._before_read()
        self._stream = decompressed(self._stream, self._name)
        magic = self._read(4, "the file is empty", "the file is no capture")
        if magic == _SECTION_MAGIC:
            return self._pcapng()
        for order in "<>":
            (number,) = struct.unpack(f"{order}I", magic or b"")
            if number in _PCAP_UNITS:
                self._order = order
                return self._pcap(_PCAP_UNITS[number])
        raise self._damage("the file is neither pcap nor pcapng")

    # pcap.

    def _pcap(self, unit: int) -> Iterator[FilePacket]:
        *_, link = self._unpack("HHiIII", self._whole(20))
        interface = _Interface(link & _LINK_TYPE, unit=(unit, 1))
        while (head := self._read(16, None, "the file ends within a packet")) is not None:
            seconds, fraction, captured, original = self._unpack("IIII", head)
            if captured > LONGEST_BLOCK:
                raise self._damage(f"a packet of {captured} bytes is damage")
            ts = seconds * 1_000_000_000 + fraction * unit
            yield from self._packet(interface, ts, self._whole(captured), original)

    # pcapng.

    def _pcapng(self) -> Iterator[FilePacket]:
        interfaces = self._section()
        while (head := self._read(4, None, "the file ends within a block")) is not None:
            if head == _SECTION_MAGIC:
                interfaces = self._section()
                continue
            (kind,) = self._unpack("I", head)
            (length,) = self._unpack("I", self._whole(4))
            body = self._body(length, 8)
            if kind == _INTERFACE:
                if len(interfaces) == MOST_INTERFACES:
                    raise self._damage(f"more than {MOST_INTERFACES} interfaces are damage")
                interfaces.append(self._described(body, len(interfaces) + 1))
            elif kind in (_ENHANCED_PACKET, _PACKET):
                form = "IIIII" if kind == _ENHANCED_PACKET else "HxxIIII"
                number, high, low, captured, original = self._fixed(form, body)
                if number >= len(interfaces) or captured > len(body) - 20:
                    raise self._damage("a packet block contradicts itself")
                interface = interfaces[number]
                yield from self._packet(interface, interface.ts(high << 32 | low), body[20 : 20 + captured], original)
            elif kind == _SIMPLE_PACKET:
                (original,) = self._fixed("I", body)
                if not interfaces:
                    raise self._damage("a packet block contradicts itself")
                most = min(original, len(body) - 4, interfaces[0].snap_length or original)
                yield from self._packet(interfaces[0], self._ts, body[4 : 4 + most], original)
            elif kind == _STATISTICS:
                self._count_lost(interfaces, body)

    def _section(self) -> list[_Interface]:
        """Read a section header behind its block type. Each section has a byte order and interfaces of its own."""
        start = self._whole(8)
        for order in "<>":
            length, mark = struct.unpack(f"{order}II", start)
            if mark == _BYTE_ORDER:
                self._order = order
                break
        else:
            raise self._damage("a section header has no byte order")
        if self._fixed("H", self._body(length, 12)) != (1,):
            raise self._damage("the file is of a later version of pcapng than 1")
        return []

    def _body(self, length: int, read: int) -> bytes:
        """The rest of a block of which `read` bytes were read, without the length at its end."""
        if length % 4 or not read + 4 <= length <= LONGEST_BLOCK:
            raise self._damage(f"a block of {length} bytes is damage")
        body = self._whole(length - read)
        if self._unpack("I", body[-4:]) != (length,):
            raise self._damage("the two lengths of a block differ")
        return body[:-4]

    def _described(self, body: bytes, number: int) -> _Interface:
        link, snap_length = self._fixed("HxxI", body)
        name, unit, offset = "", (1000, 1), 0
        for code, value in self._options(body[8:]):
            if code == _IF_NAME:
                name = value.decode("utf-8", "replace").rstrip("\0")
                name = name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "..."
            elif code == _IF_TSRESOL and len(value) == 1:
                unit = (1_000_000_000, (2 if value[0] & 0x80 else 10) ** (value[0] & 0x7F))
            elif code == _IF_TSOFFSET and len(value) == 8:
                (offset,) = self._unpack("q", value)
        return _Interface(link, number, snap_length, name, unit, offset)

    def _count_lost(self, interfaces: list[_Interface], body: bytes) -> None:
        (number,) = self._fixed("Ixxxxxxxx", body)
        if number >= len(interfaces):
            raise self._damage("a statistics block contradicts itself")
        interface = interfaces[number]
        for code, value in self._options(body[12:]):
            if code in (_ISB_IFDROP, _ISB_OSDROP) and len(value) == 8:
                (count,) = self._unpack("Q", value)
                kind = code == _ISB_OSDROP
                self.dropped[interface.name] += count - interface.lost[kind]
                interface.lost[kind] = count

    def _options(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The options of a block, up to the first that is not whole."""
        position = 0
        while position + 4 <= len(data):
            code, length = self._unpack("HH", data[position : position + 4])
            value = data[position + 4 : position + 4 + length]
            if code == 0 or len(value) < length:
                return
            yield code, value
            position += 4 + length + -length % 4

    # Both formats.

    def _packet(self, interface: _Interface, ts: int, data: bytes, original: int) -> Iterator[FilePacket]:
        """The packet, unless it is the second copy of a loopback frame."""
        if not 0 <= ts < _LATEST:
            raise self._damage("a packet's time is out of range")
        self._ts = ts
        packet = ip_packet(interface.link_type, data)
        if isinstance(packet, bytes):
            yield FilePacket(ts, interface.name, packet, len(data) < original, _index(interface, data))
        elif packet is not None:
            yield FilePacket(ts, interface.name, b"", len(data) < original, 0, packet)

    def _unpack(self, form: str, data: bytes) -> tuple[int, ...]:
        return struct.unpack(self._order + form, data)

    def _fixed(self, form: str, body: bytes) -> tuple[int, ...]:
        """The numbers at the beginning of a block's body."""
        size = struct.calcsize("=" + form)
        if len(body) < size:
            raise self._damage("a block is too short for its type")
        return self._unpack(form, body[:size])

    def _whole(self, size: int) -> bytes:
        """Exactly so many bytes."""
        return self._read(size, _ENDS_WITHIN, _ENDS_WITHIN) or b""

    def _read(self, size: int, at_end: str | None, within: str) -> bytes | None:
        """Exactly so many bytes. At the end of the file None, or the error `at_end` if that is not None. Where the
        file ends within these bytes, the error `within`."""
        if self._at + size > len(self._buffer):
            self._fill(size)
        data = self._buffer[self._at : self._at + size]
        self._at += len(data)
        if len(data) == size:
            return data
        if not data and at_end is None:
            return None
        raise self._damage(at_end if not data and at_end else within)

    def _fill(self, size: int) -> None:
        """Have so many bytes in the buffer, or all bytes that are left."""
        pieces = [self._buffer[self._at :]]
        missing = size - len(pieces[0])
        while missing > 0:
            self._before_read()
            piece = self._stream.read1(max(missing, _AT_ONCE))  # a pipe may give less
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
        self._buffer, self._at = b"".join(pieces), 0

    def _damage(self, what: str) -> CaptureFileError:
        return CaptureFileError(f"{self._name}: {what}; the packets before it were read (-r)")


def _index(interface: _Interface, frame: bytes) -> int:
    """The index of the interface that a frame passed, where a capture on all interfaces tells it; in a capture on one
    interface, the interface's number."""
    if interface.link_type == LINUX_SLL2:
        return int.from_bytes(frame[4:8], "big")
    return 0 if interface.link_type == LINUX_SLL or interface.name == "any" else interface.number
