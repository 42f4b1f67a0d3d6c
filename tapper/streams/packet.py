"""One IP packet in, one TCP segment out, or nothing.

A packet is a part of the ring's memory and starts at the IP header, whatever the link was; it is read where it lies.
Checksums are not looked at: on lo and veth nobody fills them in (TP_STATUS_CSUMNOTREADY in linux/if_packet.h). Formats:
RFC 791, RFC 8200, RFC 9293 section 3.1.
"""

from __future__ import annotations

import mmap
import struct
from typing import Final, TypeAlias

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10

Memory: TypeAlias = mmap.mmap | bytes
"""Where packets lie: a slice of it is a copy."""

Packet: TypeAlias = tuple[int, int, int, int]
"""(ts, ifindex, start, stop): ts in nanoseconds since 1970. The packet, as much of it as was captured, is
memory[start:stop] and begins with its IP header. A plain tuple, since one is made for each packet."""

Segment: TypeAlias = tuple[bytes, int, int, int, int, int]
"""(key, seq, ack, flags, start, stop): payload is memory[start:stop]. A plain tuple, since one is made for each packet.

The key is `source address + destination address + source port + destination port` in network byte order, as it lies
in a packet without options: 12 bytes for IPv4, 36 for IPv6. seq and ack are 32-bit numbers."""

NO_SEGMENT: Final[Segment] = (b"", 0, 0, 0, 0, 0)
"""A key is never empty. It is not None, since a tuple that may be None costs more where this is compiled."""

_TCP: Final = 6
_V4: Final = struct.Struct("!I2xI2x12sIIH").unpack_from  # two numbers hold all that is asked of the IP header
_V6: Final = struct.Struct("!B3xHBx36sIIH").unpack_from
_TCP_NUMBERS: Final = struct.Struct("!IIH").unpack_from
_V4_SHORTEST: Final = 40
_V6_SHORTEST: Final = 60
_TCP_UNLESS_FRAGMENT: Final = 0x1FFF_00FF  # of the second one: a fragment's offset, and the protocol

# Extension headers that may stand before TCP and share one format: hop-by-hop, routing, destination options. (A
# fragment header is not among them: a fragment's TCP header may be absent, and nothing here puts fragments together.)
_SKIPPABLE: Final = frozenset({0, 43, 60})
_MOST_EXTENSIONS: Final = 8


def parse(memory: Memory, begin: int, end: int) -> Segment:
    """Find the TCP segment in the IPv4 or IPv6 packet that is memory[begin:end]; NO_SEGMENT where there is none or
    where lengths contradict each other.

    The IP length cuts Ethernet's trailing padding off. An IP length of 0 means "to the end": segmentation offload and
    BIG TCP make packets that the 16-bit field cannot measure. A packet cut by the capture yields the bytes there are.
    """
    if end - begin < _V4_SHORTEST:
        return NO_SEGMENT
    first: int
    second: int
    length: int
    protocol: int
    key: bytes
    seq: int
    ack: int
    bits: int
    first, second, key, seq, ack, bits = _V4(memory, begin)
    version = first >> 24
    if version == 0x45:
        if second & _TCP_UNLESS_FRAGMENT != _TCP:
            return NO_SEGMENT
        tcp = begin + 20
        length = first & 0xFFFF
        stop = begin + length if length else end
    elif version >> 4 == 6:
        if end - begin < _V6_SHORTEST:
            return NO_SEGMENT
        _, length, protocol, key, seq, ack, bits = _V6(memory, begin)
        tcp = begin + 40
        stop = tcp + length if length else end
        if protocol != _TCP:
            tcp = _skip_extensions(memory, tcp, end, protocol)
            if not tcp or tcp + 20 > end:
                return NO_SEGMENT
            key = key[:32] + memory[tcp : tcp + 4]
            seq, ack, bits = _TCP_NUMBERS(memory, tcp + 4)
    elif version >> 4 == 4 and version & 15 > 5:
        if second & _TCP_UNLESS_FRAGMENT != _TCP:
            return NO_SEGMENT
        tcp = begin + (version & 15) * 4
        length = first & 0xFFFF
        stop = begin + length if length else end
        if tcp + 20 > end:
            return NO_SEGMENT
        key = key[:8] + memory[tcp : tcp + 4]
        seq, ack, bits = _TCP_NUMBERS(memory, tcp + 4)
    else:
        return NO_SEGMENT
    if stop > end:  # noqa: PLR1730 - a call for each packet
        stop = end
    start = tcp + (bits >> 12) * 4
    if start < tcp + 20 or start > stop:
        return NO_SEGMENT
    return key, seq, ack, bits & 0x3F, start, stop


def _skip_extensions(memory: Memory, at: int, end: int, header: int) -> int:
    """Where the TCP header is behind IPv6 extension headers that begin at `at` (RFC 8200 section 4); 0 for nowhere."""
    for _ in range(_MOST_EXTENSIONS):
        if header == _TCP:
            return at
        if header not in _SKIPPABLE or at + 8 > end:
            return 0
        header, length = memory[at], memory[at + 1]
        at += 8 + length * 8
    return 0


def mirror(key: bytes) -> bytes:
    """The key of the opposite direction of the same connection."""
    width = (len(key) - 4) // 2
    return key[width : 2 * width] + key[:width] + key[-2:] + key[-4:-2]


def opener(flags: int) -> int | None:
    """Which side opens the connection, as a SYN tells: 0 whoever sent this packet, 1 the other; None without SYN."""
    return None if not flags & SYN else 1 if flags & ACK else 0
