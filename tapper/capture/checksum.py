"""Whether a receiver would take a packet, by its checksums: RFC 791 section 3.1, RFC 9293 section 3.1, RFC 8200
section 8.1, and the way to add up that RFC 1071 has.

The Internet checksum is right where all 16-bit words, the checksum among them, add up to 0xFFFF in ones' complement
arithmetic. That is the remainder by 0xFFFF of the bytes taken as one large number, which Python computes at once.
"""

from __future__ import annotations

from typing import Final

_TCP: Final = 6
_V4_HEADER: Final = 20
_V6_HEADER: Final = 40
_FRAGMENT: Final = 0x3FFF  # more fragments, or an offset: a fragment has only a part of what was added up
_EXTENSIONS: Final = frozenset({0, 43, 60})  # hop-by-hop, routing, destination options
_MOST_EXTENSIONS: Final = 8


def is_right(memory: bytes, start: int, stop: int) -> bool:
    """Whether the packet memory[start:stop], which begins at its IP header, has the checksums that its receiver asks
    for. True for whatever is no whole TCP packet: this module cannot tell."""
    version = memory[start] >> 4 if stop > start else 0
    if version == 4 and stop - start >= _V4_HEADER:
        return _is_right_v4(memory, start, stop)
    if version == 6 and stop - start >= _V6_HEADER:
        return _is_right_v6(memory, start, stop)
    return True


def _is_right_v4(memory: bytes, start: int, stop: int) -> bool:
    header = start + (memory[start] & 15) * 4
    end = start + int.from_bytes(memory[start + 2 : start + 4], "big")
    if not start + _V4_HEADER <= header <= end <= stop:
        return True
    if _sum(memory[start:header]):
        return False
    if memory[start + 9] != _TCP or int.from_bytes(memory[start + 6 : start + 8], "big") & _FRAGMENT:
        return True
    return not _sum(_pseudo_header(memory[start + 12 : start + 20], end - header) + memory[header:end])


def _is_right_v6(memory: bytes, start: int, stop: int) -> bool:
    kind, at = memory[start + 6], start + _V6_HEADER
    end = at + int.from_bytes(memory[start + 4 : start + 6], "big")
    if not at < end <= stop:
        return True
    for _ in range(_MOST_EXTENSIONS):
        if kind not in _EXTENSIONS or at + 8 > end:
            break
        kind, at = memory[at], at + 8 + memory[at + 1] * 8
    if kind != _TCP or at >= end:
        return True
    return not _sum(_pseudo_header(memory[start + 8 : start + _V6_HEADER], end - at) + memory[at:end])


def _pseudo_header(addresses: bytes, length: int) -> bytes:
    return addresses + length.to_bytes(4, "big") + _TCP.to_bytes(4, "big")


def _sum(data: bytes) -> int:
    """0 where the 16-bit words of `data` add up to 0xFFFF. An odd last byte is the upper half of a word."""
    return int.from_bytes(data + b"\0" if len(data) & 1 else data, "big") % 0xFFFF
