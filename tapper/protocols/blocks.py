"""Header blocks of one direction of an HTTP/2 connection (HPACK, RFC 7541), read by somebody who may have come late.

A block refers to a table that the blocks before it have filled. Whoever did not see them all does not know the table,
but knows more with every block: new entries come in at the front, so an index into what was added since is certain, and
any index beyond that is said to be unknown. Nothing is ever guessed.

The table may be kept larger than the sender keeps its own: the sender's is then the front of ours, and it never refers
to what it has dropped. That is why SETTINGS_HEADER_TABLE_SIZE, which travels in the other direction, need not be
followed: a sender that makes use of it says so in a block (section 4.2).

The static table and the Huffman code are the `hpack` library's. Its decoder is not used: it is made for an endpoint,
where a table has no unknown entries, and it costs five times as much.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from hpack.table import HeaderTable

from tapper.protocols import huffman
from tapper.protocols.heads import Headers
from tapper.protocols.huffman import Malformed
from tapper.protocols.messages import HEAD_LIMIT

TABLE_LIMIT = 64 * 1024
"""Largest table kept. A sender that asks for more makes its blocks unknown, no matter what it was allowed."""
_INITIAL_SIZE = 4096  # SETTINGS_HEADER_TABLE_SIZE before anybody says otherwise (RFC 9113 section 6.5.2)
_OVERHEAD = 32  # of an entry, beside its octets (section 4.1)
_LONGEST_SHIFT = 21  # numbers of up to 28 bits: more than any length or index can be
_CACHED = 32

_Field: TypeAlias = tuple[str, str]
_UNKNOWN = "\0"  # no field has this name: NUL is in no token (RFC 9113 section 8.2.1)
_UNKNOWN_FIELD: _Field = (_UNKNOWN, "")
_STATIC: tuple[_Field, ...] = (
    _UNKNOWN_FIELD,  # nothing is at 0
    *((name.decode("latin-1"), value.decode("latin-1")) for name, value in HeaderTable.STATIC_TABLE),
)
_DYNAMIC = len(_STATIC)


class Fields(NamedTuple):
    """What a block said."""

    headers: Headers
    """Pseudo-header fields included; bytes as latin-1 characters."""
    complete: bool
    """False where fields are missing from `headers`, because they refer to entries nobody here has seen."""
    pseudo: Mapping[str, str]
    """The pseudo-header fields; of equal ones the first."""
    shown: Headers
    """`headers` without the pseudo-header fields that have a place of their own in a message."""
    size: int
    """Octets of names and values."""


UNKNOWN_FIELDS = Fields((), complete=False, pseudo={}, shown=(), size=0)


class BlockReader:
    """Decodes the blocks of one direction, in their order. `known` tells whether the direction was seen from its start.
    Nothing raises, whatever the bytes are."""

    def __init__(self, *, known: bool) -> None:
        self._entries: deque[_Field] = deque()  # the newest first, as they are counted
        self._size = 0
        self._limit = _INITIAL_SIZE if known else TABLE_LIMIT
        self._cache: dict[bytes, Fields] = {}
        self._shown: Headers = ()  # of the last block

    @property
    def held(self) -> int:
        """Bytes in the table."""
        return self._size

    def forget(self) -> None:
        """Blocks were lost: from here on only what later blocks add is known."""
        self._entries.clear()
        self._size, self._limit = 0, TABLE_LIMIT
        self._cache.clear()

    def decode(self, block: bytes) -> Fields:
        """A whole block. One that is malformed, or larger than any head may be, leaves the table unknown."""
        fields = self._cache.get(block)
        if fields is not None:
            return fields
        try:
            fields, touched = self._read(block)
        except (Malformed, IndexError):  # an index beyond the block: it ends within a field
            self.forget()
            return UNKNOWN_FIELDS
        if touched:
            self._cache.clear()
        elif len(self._cache) < _CACHED and len(block) < 256:
            self._cache[block] = fields  # clients repeat themselves, and a block that changed nothing means the same
        return fields

    def _read(self, block: bytes) -> tuple[Fields, bool]:
        """What the block says (section 6), and whether it changed the table."""
        headers: list[_Field] = []
        shown: list[_Field] = []
        pseudo: dict[str, str] = {}
        size = missing = 0
        touched = False
        at, end = 0, len(block)
        while at < end:
            first = block[at]
            if first >= 0x80:  # 6.1: an entry as it is
                # Most numbers are within their prefix, and a call for each is a fifth of the time.
                index, at = (first & 0x7F, at + 1) if first < 0xFF else _number(block, at, 0x7F)
                if not index:
                    raise Malformed("index 0")
                name, value = field = _STATIC[index] if index < _DYNAMIC else self._entry(index)
            elif first & 0xE0 == 0x20:  # 6.3: a new size of the table, before any field
                limit, at = _number(block, at, 0x1F)
                if size or limit > TABLE_LIMIT:
                    raise Malformed("a size that cannot be")
                self._limit, touched = limit, True
                self._evict()
                continue
            else:  # 6.2: a literal value, with the name of an entry or a literal one
                index, at = _number(block, at, 0x3F if first & 0x40 else 0x0F)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, at = _string(block, at)
                value, at = _string(block, at)
                field = (name, value)
                if first & 0x40:  # 6.2.1: it becomes an entry
                    touched = True
                    self._entries.appendleft(field)
                    self._size += len(name) + len(value) + _OVERHEAD
                    self._evict()
            size += len(name) + len(value) + _OVERHEAD
            if size > HEAD_LIMIT:
                raise Malformed("more fields than any head has")
            if name == _UNKNOWN:
                missing += 1
                continue
            headers.append(field)
            if name[:1] == ":":
                pseudo.setdefault(name, value)
                if name != ":authority":
                    continue
            shown.append(field)
        octets = size - _OVERHEAD * (len(headers) + missing)
        fields = tuple(shown)
        if fields != self._shown:  # entries of the table are the same objects, so this costs next to nothing
            self._shown = fields
        return Fields(tuple(headers), missing == 0, pseudo, self._shown, octets), touched

    def _entry(self, index: int) -> _Field:
        """By its number (section 2.3.3), which is at least 1."""
        if index < _DYNAMIC:
            return _STATIC[index]
        index -= _DYNAMIC
        return self._entries[index] if index < len(self._entries) else _UNKNOWN_FIELD

    def _evict(self) -> None:
        """The oldest entries go until the table fits (section 4.4); one that is too large for it goes, too."""
        while self._size > self._limit:
            name, value = self._entries.pop()
            self._size -= len(name) + len(value) + _OVERHEAD


def _number(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """An integer whose prefix is what the mask leaves of the octet (section 5.1), and where it ends."""
    number = block[at] & mask
    at += 1
    if number < mask:
        return number, at
    for shift in range(0, _LONGEST_SHIFT + 1, 7):
        octet = block[at]
        at += 1
        number += (octet & 0x7F) << shift
        if octet < 0x80:
            return number, at
    raise Malformed("a number that is too large")


def _string(block: bytes, at: int) -> tuple[str, int]:
    """A string literal (section 5.2), and where it ends."""
    first = block[at]
    length, at = (first & 0x7F, at + 1) if first & 0x7F < 0x7F else _number(block, at, 0x7F)
    stop = at + length
    if stop > len(block):
        raise Malformed("a string that goes on behind the block")
    data = block[at:stop]
    return (huffman.decode(data) if first & 0x80 else data.decode("latin-1")), stop
