"""String literals of HPACK (RFC 7541 section 5.2), with the Huffman code of the `hpack` library (appendix B).

A passive reader sees the same strings over and over, so short ones are decoded once. What is new goes through the
library's automaton eight bits at a time instead of four: the step of a state and an octet is worked out when it first
occurs. Both memories are bounded, and shared by all connections: what a string means depends on nothing else.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE

_REMEMBERED = 4096
_SHORT: Final = 64  # octets: longer strings are seldom the same twice
_MOST_STEPS = 16_384  # of the 65,536 that there are; text needs some thousands


class Malformed(Exception):
    """These octets are not HPACK."""


class _Steps:
    """By state * 256 + octet: the next state times 256, and the characters that came out; None for what did not occur.
    A state is a node of the library's automaton."""

    def __init__(self) -> None:
        self.known: list[tuple[int, str] | None] = [None] * (16 * len(HUFFMAN_TABLE))
        self.count = 0

    def work_out(self, key: int) -> tuple[int, str]:
        """Raises Malformed where no code leads on."""
        state, out = key >> 8, ""
        for nibble in (key >> 4 & 15, key & 15):
            state, flags, octet = HUFFMAN_TABLE[state * 16 + nibble]
            if flags & HUFFMAN_FAIL:
                raise Malformed("no Huffman code")
            if flags & HUFFMAN_EMIT_SYMBOL:
                out += chr(octet)
        if self.count >= _MOST_STEPS:
            self.known[:] = [None] * len(self.known)
            self.count = 0
        step = self.known[key] = (state << 8, out)
        self.count += 1
        return step


_STEPS: Final = _Steps()
# Whether a string may end in a state: nothing is left of its last code but padding. The automaton tells it of the step
# into a state, and all steps into one tell the same.
_MAY_END = frozenset({0, *(state for state, flags, _ in HUFFMAN_TABLE if flags & HUFFMAN_COMPLETE)})


def _decode(data: bytes) -> str:
    state, known = 0, _STEPS.known
    parts = []
    for octet in data:
        step = known[state | octet]
        if step is None:
            step = _STEPS.work_out(state | octet)
        state, out = step
        parts.append(out)
    if state >> 8 not in _MAY_END:
        raise Malformed("half a Huffman code")
    return "".join(parts)


_remember = lru_cache(_REMEMBERED)(_decode)


def decode(data: bytes) -> str:
    """The octets of a Huffman-coded string, as latin-1 characters. Raises Malformed."""
    return _remember(data) if len(data) <= _SHORT else _decode(data)
