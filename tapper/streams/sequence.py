"""Arithmetic on TCP sequence numbers, which are modulo 2^32 (RFC 9293 section 3.4)."""

from __future__ import annotations

from typing import Final

MASK: Final = 0xFFFF_FFFF
HALF: Final = 0x8000_0000


def difference(a: int, b: int) -> int:
    """How far `a` is ahead of `b`, from -2^31 to 2^31 - 1: the shorter way around the circle."""
    return ((a - b + HALF) & MASK) - HALF


def after(a: int, b: int) -> bool:
    """Whether `a` comes strictly after `b`."""
    return 0 < ((a - b) & MASK) < HALF


def unwrap(number: int, near: int) -> int:
    """The integer congruent to `number` modulo 2^32 that is nearest to `near`: positions that never wrap."""
    return near + ((number - near + HALF) & MASK) - HALF
