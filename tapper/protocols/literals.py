"""Numbers and string literals of HPACK (RFC 7541 section 5), and the fields that are made of nothing else."""

from __future__ import annotations

from typing import Final

from tapper.protocols import huffman
from tapper.protocols.fields import STATIC, Entry
from tapper.protocols.huffman import Malformed
from tapper.runtime.memo import Memo

_LONGEST_SHIFT: Final = 21  # numbers of up to 28 bits: more than any length or index can be


def number(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """An integer whose prefix is what the mask leaves of the octet (section 5.1), and where it ends."""
    found = block[at] & mask
    at += 1
    if found < mask:
        return found, at
    for shift in range(0, _LONGEST_SHIFT + 1, 7):
        octet = block[at]
        at += 1
        found += (octet & 0x7F) << shift
        if octet < 0x80:
            return found, at
    raise Malformed("a number that is too large")


def behind(block: bytes, at: int) -> int:
    """Where a string literal (section 5.2) ends."""
    length = block[at] & 0x7F
    if length == 0x7F:
        length, at = number(block, at, 0x7F)
    else:
        at += 1
    if at + length > len(block):
        raise Malformed("a string that goes on behind the block")
    return at + length


def string(block: bytes, at: int) -> tuple[str, int]:
    """A string literal (section 5.2), and where it ends."""
    stop = behind(block, at)
    coded = block[at] & 0x80
    _, at = number(block, at, 0x7F)
    data = block[at:stop]
    return (huffman.decode(data) if coded else data.decode("latin-1")), stop


def _of_literal(block: bytes) -> Entry:
    """The field in a literal representation that refers to no entry of a dynamic table."""
    index, at = number(block, 0, 0x3F if block[0] & 0x40 else 0x0F)
    if index:
        name = STATIC[index].field[0]
    else:
        name, at = string(block, at)
    return Entry(name, string(block, at)[0])


LITERALS: Final[Memo[bytes, Entry]] = Memo(_of_literal, len)
"""By their octets. They mean the same on all connections."""
