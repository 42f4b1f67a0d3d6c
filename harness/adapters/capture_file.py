"""Reading pcap and pcapng, also of a file that is still being written. Pure.

Sources: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng. Numbers are in the byte order of the file's writer. A
library's reader would end silently at damage; this one says at which byte it is, and why.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

LARGEST_PACKET = 1 << 20
_LARGEST_BLOCK = 16 << 20

_PCAP_HEADER = 24
_UNITS = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}
"""Magic number of a pcap file -> nanoseconds per unit of a timestamp's fraction."""
_LINK_TYPE_BITS = 0x0FFF_FFFF  # the bits above hold the length of frame check sequences

_BYTE_ORDER = 0x1A2B3C4D
_IF_NAME, _IF_TSRESOL, _IF_TSOFFSET = 2, 9, 14  # options of an interface


class _Kind(enum.IntEnum):
    """The block types of pcapng that are read; the others are skipped."""

    SECTION = 0x0A0D0D0A
    INTERFACE = 1
    OBSOLETE = 2
    SIMPLE = 3
    ENHANCED = 6


class Damaged(Exception):
    """Bytes that are not pcap or pcapng: the sentence says from which byte on, and why."""


@dataclass(frozen=True, slots=True)
class Record:
    """One packet of a file."""

    time_ns: int | None
    """Nanoseconds since the epoch; a simple packet block of pcapng has no time."""
    interface: str | None
    """The interface's name, if the file has one."""
    link_type: int
    length: int
    """The length on the wire; `data` is shorter if it was cut."""
    data: bytes


@dataclass(slots=True)
class _InterfaceBlock:
    """The content of an interface description block."""

    link_type: int
    snap_length: int
    """0: packets are not cut."""
    name: str | None = None
    resolution: int = 6
    """The byte of the option: a negative power of ten, or of two if its highest bit is set."""
    offset: int = 0
    """Seconds that are added to each time."""

    def time_ns(self, high: int, low: int) -> int:
        ticks = high << 32 | low
        second: int = 2 ** (self.resolution & 0x7F) if self.resolution & 0x80 else 10**self.resolution
        return ticks * 10**9 // second + self.offset * 10**9


def records(content: bytes) -> Iterator[Record]:
    """The whole packets of a file, which may end within a packet because it is still being written.

    Raises `Damaged`, after the packets before the damage.
    """
    if len(content) < 4:
        return
    magic = {order: struct.unpack_from(order + "I", content)[0] for order in "<>"}
    for order, number in magic.items():
        if number in _UNITS:
            yield from _pcap(content, order, _UNITS[number])
            return
    if magic["<"] != _Kind.SECTION:
        raise Damaged(f"it begins with {content[:4]!r}, which is neither pcap nor pcapng")
    yield from _Blocks(content).records()


def whole(content: bytes) -> bool:
    """Whether the file ends at the end of a packet or a block. Ask only where `records` reads it without an error."""
    if len(content) < 4:
        return not content
    order = next((order for order in "<>" if struct.unpack_from(order + "I", content)[0] in _UNITS), None)
    if order is None:
        blocks = _Blocks(content)
        list(blocks.records())
        return blocks.at == len(content)
    at = _PCAP_HEADER
    while at + 16 <= len(content):
        at += 16 + int(struct.unpack_from(order + "I", content, at + 8)[0])
    return at == len(content)


def _pcap(content: bytes, order: str, unit: int) -> Iterator[Record]:
    if len(content) < _PCAP_HEADER:
        return
    link_type = struct.unpack_from(order + "I", content, 20)[0] & _LINK_TYPE_BITS
    head, at = struct.Struct(order + "4I"), _PCAP_HEADER
    while at + head.size <= len(content):
        seconds, fraction, kept, length = head.unpack_from(content, at)
        if kept > LARGEST_PACKET:
            raise Damaged(f"at byte {at} a packet of {kept} bytes begins, which no interface carries")
        data = content[at + head.size : at + head.size + kept]
        if len(data) < kept:
            return
        yield Record(seconds * 10**9 + fraction * unit, None, link_type, length, data)
        at += head.size + kept


@dataclass(slots=True)
class _Blocks:
    """The blocks of a pcapng file. `at` is the number of bytes that were read."""

    content: bytes
    at: int = 0
    order: str = "<"
    interfaces: list[_InterfaceBlock] = field(default_factory=list)

    def records(self) -> Iterator[Record]:
        while (block := self._next()) is not None:
            kind, body = block
            try:
                match kind:
                    case _Kind.SECTION:
                        self.interfaces.clear()  # each section numbers its interfaces from 0
                    case _Kind.INTERFACE:
                        self.interfaces.append(self._interface(body))
                    case _Kind.OBSOLETE | _Kind.SIMPLE | _Kind.ENHANCED:
                        yield self._packet(kind, body)
            except (struct.error, IndexError):
                raise Damaged(
                    f"the block of type {kind} that ends at byte {self.at} is too short, or of no interface"
                ) from None

    def _next(self) -> tuple[int, bytes] | None:
        """Type and body of the next block; None if the file ends before the end of the block."""
        content, at = self.content, self.at
        if at + 12 > len(content):
            return None
        kind = struct.unpack_from(self.order + "I", content, at)[0]
        if kind == _Kind.SECTION:
            self.order = "<" if struct.unpack_from("<I", content, at + 8)[0] == _BYTE_ORDER else ">"
            if struct.unpack_from(self.order + "I", content, at + 8)[0] != _BYTE_ORDER:
                raise Damaged(f"the section that begins at byte {at} has no byte order")
        length = struct.unpack_from(self.order + "I", content, at + 4)[0]
        if length % 4 or not 12 <= length <= _LARGEST_BLOCK:
            raise Damaged(f"at byte {at} a block of {length} bytes begins, which is no length of one")
        if at + length > len(content):
            return None
        if struct.unpack_from(self.order + "I", content, at + length - 4)[0] != length:
            raise Damaged(f"the block that begins at byte {at} ends with another length than it begins with")
        self.at += length
        return kind, content[at + 8 : at + length - 4]

    def _interface(self, body: bytes) -> _InterfaceBlock:
        found = _InterfaceBlock(*struct.unpack_from(self.order + "HxxI", body))
        at = 8
        while at + 4 <= len(body):
            option, length = struct.unpack_from(self.order + "HH", body, at)
            value = body[at + 4 : at + 4 + length]
            if option == _IF_NAME:
                found.name = value.decode(errors="replace")
            elif option == _IF_TSRESOL and value:
                found.resolution = value[0]
            elif option == _IF_TSOFFSET and length == 8:
                (found.offset,) = struct.unpack(self.order + "q", value)
            elif option == 0:  # opt_endofopt
                break
            at += 4 + (length + 3 & ~3)
        return found

    def _packet(self, kind: int, body: bytes) -> Record:
        if kind == _Kind.SIMPLE:
            interface, time_ns = self.interfaces[0], None
            (length,) = struct.unpack_from(self.order + "I", body)
            kept, at = min(length, interface.snap_length or length), 4
        else:
            if kind == _Kind.ENHANCED:
                number, high, low, kept, length = struct.unpack_from(self.order + "5I", body)
            else:
                number, high, low, kept, length = struct.unpack_from(self.order + "Hxx4I", body)
            interface, at = self.interfaces[number], 20
            time_ns = interface.time_ns(high, low)
        if kept > len(body) - at:
            raise IndexError
        return Record(time_ns, interface.name, interface.link_type, length, body[at : at + kept])
