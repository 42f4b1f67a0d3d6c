"""Whether a receiver accepts the checksums of a packet (RFC 791 section 3.1, RFC 9293 section 3.1, RFC 8200 section
8.1).

The Internet checksum is right where all 16-bit words, the checksum included, add up to 0xFFFF in ones' complement
arithmetic (RFC 1071). That sum is the remainder by 0xFFFF of the bytes as one large number, which Python computes at
once.
"""

from __future__ import annotations

from typing import Final

from tapper.streams.packet import TCP, skip_extensions

_V4_HEADER: Final = 20
_V6_HEADER: Final = 40
_FRAGMENT: Final = 0x3FFF  # more fragments, or an offset: the checksum covers more than a fragment has


def is_right(memory: bytes, start: int, stop: int) -> bool:
    """Whether the packet memory[start:stop], which begins at its IP header, has the checksums that its receiver asks
    for. True for everything but a whole TCP packet, because this function cannot check it."""
    version = memory[start] >> 4 if stop > start else 0
    if version == 4 and stop - start >= _V4_HEADER:
        return _is_right_v4(memory, start, stop)
    if version == 6 and stop - start >= _V6_HEADER:
        return _is_right_v6(memory, start, stop)
    return True


def _is_right_v4(memory: bytes, start: int, stop: int) -> bool:
    tcp = start + (memory[start] & 15) * 4
    end = start + int.from_bytes(memory[start + 2 : start + 4], "big")
    if not start + _V4_HEADER <= tcp <= end <= stop:
        return True
    if _remainder(memory[start:tcp]):
        return False
    if memory[start + 9] != TCP or int.from_bytes(memory[start + 6 : start + 8], "big") & _FRAGMENT:
        return True
    return not _remainder(_pseudo_header(memory[start + 12 : start + 20], end - tcp) + memory[tcp:end])


def _is_right_v6(memory: bytes, start: int, stop: int) -> bool:
    end = start + _V6_HEADER + int.from_bytes(memory[start + 4 : start + 6], "big")
    if not start + _V6_HEADER < end <= stop:
        return True
    tcp = skip_extensions(memory, start + _V6_HEADER, end, memory[start + 6])
    if not tcp or tcp >= end:
        return True
    return not _remainder(_pseudo_header(memory[start + 8 : start + _V6_HEADER], end - tcp) + memory[tcp:end])


def _pseudo_header(addresses: bytes, length: int) -> bytes:
    return addresses + length.to_bytes(4, "big") + TCP.to_bytes(4, "big")


def _remainder(data: bytes) -> int:
    """0 where the 16-bit words of `data` add up to 0xFFFF. An odd last byte is the upper half of a word."""
    return int.from_bytes(data + b"\0" if len(data) & 1 else data, "big") % 0xFFFF
