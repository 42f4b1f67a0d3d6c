"""One IP packet in, one TCP segment out, or nothing.

A packet is a part of some memory and starts at the IP header, whatever the link was; it is read where it lies.
Checksums are not looked at here: on lo and veth nobody fills them in, and where somebody does, `tapper.capture` has
looked at them. Formats: RFC 791, RFC 8200, RFC 9293 section 3.1.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, TypeAlias

from tapper import FORM

if TYPE_CHECKING:
    from mypy_extensions import i64  # a machine's number, where this is compiled

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10

Packet: TypeAlias = tuple[int, int, int, int]
"""(ts, ifindex, start, stop): ts in nanoseconds since 1970. The packet, as much of it as was captured, is
memory[start:stop] of some bytes and begins with its IP header. A plain tuple, since one is made for each packet."""

Segment: TypeAlias = tuple[bytes, int, int, int, int, int, int]
"""(key, seq, ack, flags, window, start, stop): payload is memory[start:stop]. A plain tuple, since one is made for each
packet. window is the header's field as it stands there, not scaled.

The key is `source address + destination address + source port + destination port` in network byte order, as it lies
in a packet without options: 12 bytes for IPv4, 36 for IPv6. seq and ack are 32-bit numbers."""

BYTEWISE: Final = FORM == "compiled"
"""Whether to read numbers byte by byte: compiled it costs next to nothing, interpreted as much as half an unpacking."""

NO_SEGMENT: Final[Segment] = (b"", 0, 0, 0, 0, 0, 0)
"""A key is never empty. It is not None, since a tuple that may be None costs more where this is compiled."""

_TCP: Final = 6
_END_OF_OPTIONS: Final = 0
_NO_OPERATION: Final = 1
_WINDOW_SCALE: Final = 3
_LARGEST_SCALE: Final = 14
_V4: Final = struct.Struct("!I2xI2x12sIIHH").unpack_from  # two numbers hold all that is asked of the IP header
_V6: Final = struct.Struct("!B3xHBx36sIIHH").unpack_from
_TCP_NUMBERS: Final = struct.Struct("!IIHH").unpack_from
_V4_SHORTEST: Final = 40
_V6_SHORTEST: Final = 60
_TCP_UNLESS_FRAGMENT: Final = 0x1FFF_00FF  # of the second one: a fragment's offset, and the protocol

# Extension headers that may stand before TCP and share one format: hop-by-hop, routing, destination options. (A
# fragment header is not among them: a fragment's TCP header may be absent, and nothing here puts fragments together.)
_SKIPPABLE: Final = frozenset({0, 43, 60})
_MOST_EXTENSIONS: Final = 8


def parse(memory: bytes, begin: int, end: int) -> Segment:
    """Find the TCP segment in the IPv4 or IPv6 packet that is memory[begin:end]; NO_SEGMENT where there is none or
    where lengths contradict each other.

    The IP length cuts Ethernet's trailing padding off. An IP length of 0 means "to the end": segmentation offload and
    BIG TCP make packets that the 16-bit field cannot measure. A packet cut by the capture yields the bytes there are.
    """
    if end - begin < _V4_SHORTEST:
        return NO_SEGMENT
    if BYTEWISE:
        usual = plainest(memory, begin, end)
        if usual[0]:
            return usual
    first: int
    second: int
    length: int
    protocol: int
    key: bytes
    seq: int
    ack: int
    bits: int
    window: int
    first, second, key, seq, ack, bits, window = _V4(memory, begin)
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
        _, length, protocol, key, seq, ack, bits, window = _V6(memory, begin)
        tcp = begin + 40
        stop = tcp + length if length else end
        if protocol != _TCP:
            tcp = _skip_extensions(memory, tcp, end, protocol)
            if not tcp or tcp + 20 > end:
                return NO_SEGMENT
            key = key[:32] + memory[tcp : tcp + 4]
            seq, ack, bits, window = _TCP_NUMBERS(memory, tcp + 4)
    elif version >> 4 == 4 and version & 15 > 5:
        if second & _TCP_UNLESS_FRAGMENT != _TCP:
            return NO_SEGMENT
        tcp = begin + (version & 15) * 4
        length = first & 0xFFFF
        stop = begin + length if length else end
        if tcp + 20 > end:
            return NO_SEGMENT
        key = key[:8] + memory[tcp : tcp + 4]
        seq, ack, bits, window = _TCP_NUMBERS(memory, tcp + 4)
    else:
        return NO_SEGMENT
    if stop > end:  # noqa: PLR1730 - a call for each packet
        stop = end
    start = tcp + (bits >> 12) * 4
    if start < tcp + 20 or start > stop:
        return NO_SEGMENT
    return key, seq, ack, bits & 0x3F, window, start, stop


def plainest(memory: bytes, begin: int, end: int) -> Segment:
    """The same for nearly all: whole lengths, no options of IPv4, no extension headers of IPv6. NO_SEGMENT for others.
    At least 40 bytes."""
    at: i64 = begin
    tcp: i64
    length: i64
    stop: i64
    version: i64 = memory[at]
    if version == 0x45:
        fragment: i64 = memory[at + 6]
        if memory[at + 9] != _TCP or fragment & 0x1F or memory[at + 7]:
            return NO_SEGMENT
        tcp = at + 20
        length = _short(memory, at + 2)
        stop = at + length
        key = memory[begin + 12 : begin + 24]
    elif version >> 4 == 6 and end - begin >= _V6_SHORTEST and memory[at + 6] == _TCP:
        tcp = at + 40
        length = _short(memory, at + 4)
        stop = tcp + length
        key = memory[begin + 8 : begin + 44]
    else:
        return NO_SEGMENT
    start: i64 = memory[tcp + 12]
    start = tcp + (start >> 4) * 4
    if not length or stop > end or start < tcp + 20 or start > stop:
        return NO_SEGMENT
    flags: i64 = memory[tcp + 13]
    window = _short(memory, tcp + 14)
    return key, _long(memory, tcp + 4), _long(memory, tcp + 8), flags & 0x3F, window, start, stop


def _short(memory: bytes, at: i64) -> i64:
    high: i64 = memory[at]
    low: i64 = memory[at + 1]
    return high << 8 | low


def _long(memory: bytes, at: i64) -> i64:
    return _short(memory, at) << 16 | _short(memory, at + 2)


def window_scale(memory: bytes, begin: int, start: int) -> int | None:
    """The shift count that a SYN offers (RFC 7323 section 2.2), at most 14; None where it offers none.

    The packet's IP header is at memory[begin], its TCP header ends at `start`.
    """
    # 1. Where the TCP header begins: a SYN is rare, so the IP header is read once more.
    is_v4 = memory[begin] >> 4 == 4
    size = (memory[begin] & 15) * 4
    at = begin + size if is_v4 else _skip_extensions(memory, begin + 40, start, memory[begin + 6])
    # 2. The options: a kind, a length that counts both, and a value; two kinds are one octet alone.
    at += 20
    while at < start and memory[at] != _END_OF_OPTIONS:
        if memory[at] == _NO_OPERATION:
            at += 1
            continue
        if at + 2 > start or memory[at + 1] < 2:
            return None
        if memory[at] == _WINDOW_SCALE and memory[at + 1] == 3 and at + 3 <= start:
            return min(memory[at + 2], _LARGEST_SCALE)
        at += memory[at + 1]
    return None


def _skip_extensions(memory: bytes, at: int, end: int, header: int) -> int:
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
