"""Finds the TCP segment in a packet without options of IPv4 and without extension headers of IPv6.

Replaces `tapper.streams.packet.parse`, which gets every other packet. Two forms, because interpreted code is fastest
with one unpacking of the whole packet, and compiled code with arithmetic on octets. Measured with 30,300 packets:
107 ms by `parse` and 32 ms by `parse_unpacking`, interpreted; 36 ms by `parse` and 16 ms by `parse_bytewise`, compiled.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from tapper import FORM
from tapper.streams.packet import NO_SEGMENT, SHORTEST_V4, SHORTEST_V6, TCP, TcpHeader, parse

if TYPE_CHECKING:
    from mypy_extensions import i64  # a number of the machine, where this module is compiled

BYTEWISE: Final = FORM == "compiled"
"""Which of the two forms is the faster one."""

_V4: Final = struct.Struct("!I2xI2x12sIIHH").unpack_from  # two numbers hold all that matters of the IP header
_V6: Final = struct.Struct("!B3xHBx36sIIHH").unpack_from
_TCP_UNLESS_FRAGMENT: Final = 0x3FFF_00FF  # of the second number: the fields of fragments, and the protocol


def parse_unpacking(memory: bytes, begin: int, end: int) -> TcpHeader:
    """As `parse`, by one unpacking."""
    if end - begin < SHORTEST_V4:
        return NO_SEGMENT
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
    if first >> 24 == 0x45 and second & _TCP_UNLESS_FRAGMENT == TCP:
        tcp = begin + 20
        length = first & 0xFFFF
        stop = begin + length
    elif first >> 28 == 6 and end - begin >= SHORTEST_V6:
        _, length, protocol, key, seq, ack, bits, window = _V6(memory, begin)
        if protocol != TCP:
            return parse(memory, begin, end)
        tcp = begin + 40
        stop = tcp + length
    else:
        return parse(memory, begin, end)
    start = tcp + (bits >> 12) * 4
    if not length or stop > end or start < tcp + 20 or start > stop:
        return parse(memory, begin, end)
    return key, seq, ack, bits & 0x3F, window, start, stop


def parse_bytewise(memory: bytes, begin: int, end: int) -> TcpHeader:
    """As `parse`, by arithmetic on octets."""
    if end - begin < SHORTEST_V4:
        return NO_SEGMENT
    at: i64 = begin
    tcp: i64
    length: i64
    stop: i64
    version: i64 = memory[at]
    if version == 0x45:
        fragment: i64 = memory[at + 6]
        if memory[at + 9] != TCP or fragment & 0x3F or memory[at + 7]:
            return parse(memory, begin, end)
        tcp = at + 20
        length = _short(memory, at + 2)
        stop = at + length
        key = memory[begin + 12 : begin + 24]
    elif version >> 4 == 6 and end - begin >= SHORTEST_V6 and memory[at + 6] == TCP:
        tcp = at + 40
        length = _short(memory, at + 4)
        stop = tcp + length
        key = memory[begin + 8 : begin + 44]
    else:
        return parse(memory, begin, end)
    start: i64 = memory[tcp + 12]
    start = tcp + (start >> 4) * 4
    if not length or stop > end or start < tcp + 20 or start > stop:
        return parse(memory, begin, end)
    flags: i64 = memory[tcp + 13]
    window = _short(memory, tcp + 14)
    return key, _long(memory, tcp + 4), _long(memory, tcp + 8), flags & 0x3F, window, start, stop


def _short(memory: bytes, at: i64) -> i64:
    high: i64 = memory[at]
    low: i64 = memory[at + 1]
    return high << 8 | low


def _long(memory: bytes, at: i64) -> i64:
    return _short(memory, at) << 16 | _short(memory, at + 2)
