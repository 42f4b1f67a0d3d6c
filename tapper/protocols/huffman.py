"""String literals of HPACK (RFC 7541 section 5.2), with the Huffman code of the `hpack` library (appendix B).

A passive reader sees the same strings over and over, so short ones are decoded once. What is new goes through the
library's automaton eight bits at a time instead of four: the step of a state and an octet is worked out when it first
occurs. Both memories are bounded, and shared by all connections: what a string means depends on nothing else.
"""

from __future__ import annotations

from functools import lru_cache

from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE

_REMEMBERED = 4096
_SHORT = 64  # octets: longer strings are seldom the same twice
_MOST_STEPS = 16_384  # of the 65,536 that there are; text needs some thousands


class Malformed(Exception):
    """These octets are not HPACK."""


class _Steps(dict[int, tuple[int, str]]):
    """By state * 256 + octet: the next state times 256, and the characters that came out. A state is a node of the
    library's automaton. Raises Malformed where no code leads on."""

    def __missing__(self, key: int) -> tuple[int, str]:
        state, out = key >> 8, ""
        for nibble in (key >> 4 & 15, key & 15):
            state, flags, octet = HUFFMAN_TABLE[state * 16 + nibble]
            if flags & HUFFMAN_FAIL:
                raise Malformed("no Huffman code")
            if flags & HUFFMAN_EMIT_SYMBOL:
                out += chr(octet)
        if len(self) >= _MOST_STEPS:
            self.clear()
        step = self[key] = (state << 8, out)
        return step


_steps = _Steps()
# Whether a string may end in a state: nothing is left of its last code but padding. The automaton tells it of the step
# into a state, and all steps into one tell the same.
_MAY_END = frozenset({0, *(state for state, flags, _ in HUFFMAN_TABLE if flags & HUFFMAN_COMPLETE)})


def _decode(data: bytes) -> str:
    state, steps = 0, _steps
    parts = []
    for octet in data:
        state, out = steps[state | octet]
        parts.append(out)
    if state >> 8 not in _MAY_END:
        raise Malformed("half a Huffman code")
    return "".join(parts)


_remember = lru_cache(_REMEMBERED)(_decode)


def decode(data: bytes) -> str:
    """The octets of a Huffman-coded string, as latin-1 characters. Raises Malformed."""
    return _remember(data) if len(data) <= _SHORT else _decode(data)
