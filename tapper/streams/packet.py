"""Finds the TCP segment in an IP packet.

A packet is a part of some memory. It begins at its IP header, and it is read in place. This module does not look at
checksums: on lo and veth nobody fills them in, and `tapper.capture` has checked the others.

Formats: RFC 791 (IPv4), RFC 8200 (IPv6), RFC 9293 section 3.1 (TCP).
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple, TypeAlias

from tapper.streams.sequence import MASK

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10

Packet: TypeAlias = tuple[int, int, int, int]
"""(ts, ifindex, start, stop): ts in nanoseconds since 1970. The captured bytes of the packet are memory[start:stop] and
begin with the IP header. A plain tuple, because one is made for every packet."""

TcpHeader: TypeAlias = tuple[bytes, int, int, int, int, int, int]
"""(key, seq, ack, flags, window, start, stop): the payload is memory[start:stop]. A plain tuple, because one is made
for every packet. window is the field of the header, not scaled. seq and ack are 32-bit numbers.

The key is `source address + destination address + source port + destination port` in network byte order, as in a packet
without options: 12 bytes for IPv4, 36 bytes for IPv6."""

NO_SEGMENT: Final[TcpHeader] = (b"", 0, 0, 0, 0, 0, 0)
"""Stands for "no TCP segment": the key of a segment is never empty."""

TCP: Final = 6
SHORTEST_V4: Final = 40
"""Bytes of an IPv4 packet with a TCP header, both without options."""
SHORTEST_V6: Final = 60
_V4_HEADER: Final = 20
_V6_HEADER: Final = 40
_TCP_HEADER: Final = 20
_END_OF_OPTIONS: Final = 0
_NO_OPERATION: Final = 1
_WINDOW_SCALE: Final = 3
_TIMESTAMPS: Final = 8
TIMESTAMP: Final = b"\x01\x01\x08\x0a"
"""Two no-operations, kind and length: how the timestamps option stands in a header (RFC 7323 appendix A)."""
_LARGEST_SCALE: Final = 14  # RFC 7323 section 2.3
_FRAGMENT: Final = 0x3FFF  # more fragments, or an offset
_IP_V4: Final = struct.Struct("!BxHxxHxB").unpack_from  # version and size, total length, fragment, protocol
_IP_V6: Final = struct.Struct("!xxxxHB").unpack_from  # payload length, next header
_TCP_NUMBERS: Final = struct.Struct("!IIHH").unpack_from  # seq, ack, data offset and flags, window

# Extension headers that may stand before TCP and share one format: hop-by-hop, routing, destination options. Rarer
# headers, and fragments, are the work of `tapper.streams.decapsulation`.
EXTENSIONS: Final = frozenset({0, 43, 60})
_MOST_EXTENSIONS: Final = 8


class TcpSegment(NamedTuple):
    """One TCP segment, with its payload taken out of the packet."""

    ts: int
    """Nanoseconds since 1970."""
    interface: int
    """The index of the interface that it was captured on; 0 where that is not known."""
    seq: int
    ack: int
    flags: int
    window: int
    """The header's field, not scaled."""
    scale: int | None
    """The window's shift count that a SYN offers; None where it offers none, and in all other segments."""
    stamp: bytes
    """TIMESTAMP and the TSval of the segment; empty where it has none, and where it has neither payload nor SYN."""
    payload: bytes

    @property
    def end(self) -> int:
        """The sequence number after it. SYN and FIN take one number each."""
        return (self.seq + len(self.payload) + bool(self.flags & SYN) + bool(self.flags & FIN)) & MASK


def parse(memory: bytes, begin: int, end: int) -> TcpHeader:
    """Find the TCP segment in the IPv4 or IPv6 packet memory[begin:end]. Returns NO_SEGMENT where there is none, for a
    fragment, and where lengths contradict each other.

    The IP length cuts off the padding that Ethernet appends. An IP length of 0 means "to the end": segmentation offload
    and BIG TCP make packets that are longer than the field can say. A packet that the capture has cut yields the bytes
    that were captured.
    """
    if end - begin < SHORTEST_V4:
        return NO_SEGMENT
    # 1. The IP header: where the addresses are, where the TCP header begins, and where the packet ends.
    first: int
    length: int
    fragment: int
    protocol: int
    version = memory[begin] >> 4
    if version == 4:
        first, length, fragment, protocol = _IP_V4(memory, begin)
        size = (first & 15) * 4
        if size < _V4_HEADER or protocol != TCP or fragment & _FRAGMENT:
            return NO_SEGMENT
        tcp = begin + size
        addresses = memory[begin + 12 : begin + 20]
        stop = begin + length
    elif version == 6:
        length, protocol = _IP_V6(memory, begin)
        tcp = skip_extensions(memory, begin + _V6_HEADER, end, protocol)
        if not tcp:
            return NO_SEGMENT
        addresses = memory[begin + 8 : begin + 40]
        stop = begin + _V6_HEADER + length
    else:
        return NO_SEGMENT
    if tcp + _TCP_HEADER > end:
        return NO_SEGMENT
    if not length or stop > end:
        stop = end
    # 2. The TCP header.
    seq: int
    ack: int
    bits: int
    window: int
    seq, ack, bits, window = _TCP_NUMBERS(memory, tcp + 4)
    start = tcp + (bits >> 12) * 4
    if start < tcp + _TCP_HEADER or start > stop:
        return NO_SEGMENT
    return addresses + memory[tcp : tcp + 4], seq, ack, bits & 0x3F, window, start, stop


def window_scale(memory: bytes, begin: int, start: int) -> int | None:
    """The shift count that a SYN offers (RFC 7323 section 2.2), at most 14; None where it offers none. For the
    arguments see `_option`."""
    shift = _option(memory, begin, start, _WINDOW_SCALE, 1)
    return min(shift[0], _LARGEST_SCALE) if shift else None


def timestamp(memory: bytes, begin: int, start: int) -> bytes:
    """TIMESTAMP and the TSval of a segment (RFC 7323 section 3.2); empty where it has none. For the arguments see
    `_option`."""
    if memory[start - 12 : start - 8] == TIMESTAMP:
        return memory[start - 12 : start - 4]
    numbers = _option(memory, begin, start, _TIMESTAMPS, 8)
    return TIMESTAMP + numbers[:4] if numbers else b""


def _option(memory: bytes, begin: int, start: int, kind: int, size: int) -> bytes:
    """The data of a TCP option, so many octets; empty where there is none. The packet's IP header is at memory[begin],
    and its TCP header ends at `start`."""
    # 1. Where the TCP header begins. Such segments are few, so the IP header is read a second time.
    if memory[begin] >> 4 == 4:
        tcp = begin + (memory[begin] & 15) * 4
    else:
        tcp = skip_extensions(memory, begin + _V6_HEADER, start, memory[begin + 6])
    # 2. The options. Two kinds are one octet; all others have a length, which counts kind and length too.
    at = tcp + _TCP_HEADER
    while at < start and memory[at] != _END_OF_OPTIONS:
        if memory[at] == _NO_OPERATION:
            at += 1
            continue
        if at + 2 > start or memory[at + 1] < 2:
            break
        if memory[at] == kind and memory[at + 1] == 2 + size and at + 2 + size <= start:
            return memory[at + 2 : at + 2 + size]
        at += memory[at + 1]
    return b""


def skip_extensions(memory: bytes, at: int, end: int, header: int) -> int:
    """Where the TCP header begins behind the IPv6 extension headers at `at`, the first of type `header` (RFC 8200
    section 4). Returns 0 where none is found before `end`."""
    for _ in range(_MOST_EXTENSIONS):
        if header == TCP:
            return at
        if header not in EXTENSIONS or at + 8 > end:
            return 0
        header, length = memory[at], memory[at + 1]
        at += 8 + length * 8
    return 0


def mirror(key: bytes) -> bytes:
    """The key of the opposite direction of the same connection."""
    width = (len(key) - 4) // 2
    return key[width : 2 * width] + key[:width] + key[-2:] + key[-4:-2]


def opener(flags: int) -> int | None:
    """The side that opens the connection, as a SYN shows it: 0 the sender of this packet, 1 its receiver. None without
    SYN."""
    return None if not flags & SYN else 1 if flags & ACK else 0
