"""Header blocks of one direction of an HTTP/2 connection, for a reader that may have joined late (HPACK, RFC 7541).

A header block refers to a dynamic table, which the blocks before it have filled. A reader that missed some of these
blocks does not know the whole table, but learns more with every block: new entries come in at the front of the table,
so an index into the entries that were added since is certain. An entry beyond them is *unknown*: its field is left out,
and the block counts as incomplete. Nothing is guessed.

The reader's table may be larger than the sender's. Then the sender's table is the front of it, and the sender never
refers to an entry that it has evicted. So SETTINGS_HEADER_TABLE_SIZE, which travels in the other direction, need not be
followed: a sender that makes use of it says so in a block (section 4.2).

The static table and the Huffman code are those of the `hpack` library. Its decoder is made for an endpoint, which knows
the whole table: it refuses a block at the first unknown entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias, cast

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from tapper.protocols.headers import NO_FIELDS, HeaderList, Headers
from tapper.protocols.messages import HEAD_LIMIT
from tapper.runtime.native import mypyc_attr

TABLE_LIMIT: Final = 64 * 1024
"""Largest dynamic table, in the octets of section 4.1. A block that sets a larger size is malformed."""
_INITIAL_SIZE: Final = 4096  # SETTINGS_HEADER_TABLE_SIZE until a sender changes it (RFC 9113 section 6.5.2)
_LONGEST_SHIFT: Final = 21  # integers have up to 28 bits: more than any length or index of a valid block

Field: TypeAlias = tuple[str, ...]
"""Name and value. mypyc would copy a tuple[str, str] at each use; of this type, all use the same object."""


@mypyc_attr(acyclic=True)
class Entry:
    """An entry of a header table. Nothing changes it once it is made."""

    __slots__ = ("field", "size")

    def __init__(self, name: str, value: str) -> None:
        self.field: Field = (name, value)
        self.size = len(name) + len(value) + 32
        """Section 4.1."""


UNKNOWN: Final = Entry("\0", "")
"""Stands for an entry that is unknown. No valid name has a NUL (RFC 9113 section 8.2.1)."""
STATIC: Final[list[Entry]] = [
    UNKNOWN,  # no entry has index 0
    *(Entry(name.decode("latin-1"), value.decode("latin-1")) for name, value in HeaderTable.STATIC_TABLE),
]
"""The static table (appendix A), by index."""
SHOWN: Final = (":authority", ":protocol")
"""The pseudo-header fields that are shown among the fields of a message."""
_OF_REQUESTS: Final = (":method", ":path", ":scheme", ":authority")


class Malformed(Exception):
    """A header block violates RFC 7541, or a bound of this module."""


class OverLimit(Exception):
    """The fields of a short header block are larger than HEAD_LIMIT."""


@mypyc_attr(acyclic=True)
class DecodedBlock:
    """What a header block says. Nothing changes it once it is made: messages may share it."""

    headers: Headers = ()
    """Names and values in their order, pseudo-header fields included; octets as latin-1 characters."""
    shown: HeaderList = NO_FIELDS
    """`headers` without pseudo-header fields, except :authority and :protocol (RFC 8441)."""
    complete: bool = True
    """False if `headers` lacks fields whose entries are unknown."""
    octets: int = 0
    """Of the names and values in `headers`."""
    is_request: bool = False
    """Whether `headers` has a pseudo-header field of requests (RFC 9113 section 8.3.1)."""
    # Values of fields, None if there is no such field. Of fields with the same name, the first counts.
    method: str | None = None
    path: str | None = None
    authority: str | None = None
    status: str | None = None
    content_type: str | None = None
    flaw: str = ""
    """Why fields are missing that were sent: the block is malformed, or over a limit. Empty for other blocks."""


def decoded(headers: Headers, *, complete: bool = True) -> DecodedBlock:
    block = DecodedBlock()
    block.headers, block.complete = headers, complete
    block.shown = HeaderList(tuple(field for field in headers if field[0] in SHOWN or field[0][:1] != ":"))
    block.octets = sum(len(name) + len(value) for name, value in headers)
    first = dict(reversed(headers))
    block.is_request = any(name in first for name in _OF_REQUESTS)
    block.method, block.path, block.authority = first.get(":method"), first.get(":path"), first.get(":authority")
    block.status, block.content_type = first.get(":status"), first.get("content-type")
    return block


def _flawed(flaw: str, headers: Headers = ()) -> DecodedBlock:
    block = decoded(headers, complete=False)
    block.flaw = flaw
    return block


UNREADABLE_BLOCK: Final = decoded((), complete=False)
"""Stands for a header block that was not seen."""
_OVER_LIMIT: Final = f"a header block over {HEAD_LIMIT} octets"
_MALFORMED_BLOCK: Final = _flawed("a header block that cannot be decoded")
_OVER_LIMIT_BLOCK: Final = _flawed(_OVER_LIMIT)
_LONG_BLOCK: Final = 8192
"""Octets from which on a block may be legitimate although its fields are over the limit."""


class BlockDecoder:
    """Decodes the header blocks of one direction, in their order. `from_start`: the first block will be the first that
    this direction has, so the dynamic table is empty. No method raises."""

    def __init__(self, *, from_start: bool) -> None:
        self._entries: list[Entry] = []  # the dynamic table, the newest entry last
        self._limit = _INITIAL_SIZE if from_start else TABLE_LIMIT
        self.held = 0
        """Size of the dynamic table (section 4.1); never more than TABLE_LIMIT."""
        self.cached = 0
        """Size of the fields that a subclass keeps besides."""

    def forget(self) -> None:
        """Blocks were lost: only entries that later blocks add will be known."""
        self._entries.clear()
        self.held, self._limit = 0, TABLE_LIMIT

    def decode(self, block: bytes, *, is_cut: bool = False) -> DecodedBlock:
        """Decode one block and update the dynamic table. The result has a flaw if the block is malformed, is cut off,
        or has fields larger than HEAD_LIMIT. After the first two, and after a short block with such fields, the table
        is unknown."""
        if is_cut or len(block) > _LONG_BLOCK:
            return self._decode_long(block, is_cut=is_cut)
        try:
            return self._decode(block)
        except OverLimit:
            self.forget()
            return _OVER_LIMIT_BLOCK
        except (Malformed, HPACKDecodingError, IndexError):  # IndexError: the block ends within a field
            self.forget()
            return _MALFORMED_BLOCK

    def _decode(self, block: bytes) -> DecodedBlock:
        """Raises OverLimit, and what `_fields` raises."""
        entries: list[Entry] = []
        size = 0
        for entry in self._fields(block):
            entries.append(entry)
            size += entry.size
            if size > HEAD_LIMIT:
                raise OverLimit
        known = _known(entries)
        return decoded(known, complete=len(known) == len(entries))

    def _decode_long(self, block: bytes, *, is_cut: bool) -> DecodedBlock:
        """The same for a block that is long, or cut off: its first fields are kept, up to HEAD_LIMIT."""
        entries: list[Entry] = []
        size = 0
        try:
            for entry in self._fields(block):
                size += entry.size
                if size <= HEAD_LIMIT:
                    entries.append(entry)
        except (Malformed, HPACKDecodingError, IndexError):
            if not is_cut:
                self.forget()
                return _MALFORMED_BLOCK
        if is_cut:
            self.forget()
        known = _known(entries)
        if is_cut or size > HEAD_LIMIT:
            return _flawed(_OVER_LIMIT, known)
        return decoded(known, complete=len(known) == len(entries))

    def _fields(self, block: bytes) -> Iterator[Entry]:
        """The fields of a block, one by one; each updates the table. Raises Malformed, HPACKDecodingError, and
        IndexError where the block ends within a field."""
        at = 0
        begun = False
        while at < len(block):
            first = block[at]
            if first & 0xE0 == 0x20:  # a new size of the table, before any field (section 6.3)
                limit, at = integer(block, at, 0x1F)
                if begun or limit > TABLE_LIMIT:
                    raise Malformed
                self._limit = limit
                self._evict()
                continue
            if first & 0x80:  # an indexed field (section 6.1)
                index, at = integer(block, at, 0x7F)
                if not index:
                    raise Malformed
                entry = self._entry(index)
            else:  # a literal value, with the name of an entry or a literal name (section 6.2)
                index, at = integer(block, at, 0x3F if first & 0x40 else 0x0F)
                if index:
                    name = self._entry(index).field[0]
                else:
                    name, at = string(block, at)
                value, at = string(block, at)
                entry = self._make(name, value)
                if first & 0x40:
                    self._entries.append(entry)
                    self.held += entry.size
                    self._evict()
            begun = True
            yield entry

    def _make(self, name: str, value: str) -> Entry:
        """A new entry; a subclass may have other ones."""
        return Entry(name, value)

    def _entry(self, index: int) -> Entry:
        """An entry of the static or the dynamic table (section 2.3.3)."""
        if index < len(STATIC):
            return STATIC[index]
        age = index - len(STATIC) + 1
        return self._entries[-age] if age <= len(self._entries) else UNKNOWN

    def _evict(self) -> None:
        """Evict the oldest entries until the table fits its size (section 4.4). An entry larger than the table leaves
        it empty."""
        while self.held > self._limit:
            self.held -= self._entries.pop(0).size


def _known(entries: list[Entry]) -> Headers:
    """The fields of the entries that are known."""
    return tuple(cast(tuple[str, str], entry.field) for entry in entries if entry.field[0] != UNKNOWN.field[0])


def integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """The integer at `at` (section 5.1), and the offset after it. `mask` has the bits of the first octet that belong to
    the integer. Raises Malformed, and IndexError where the block ends within the integer."""
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    for shift in range(0, _LONGEST_SHIFT + 1, 7):
        octet = block[at]
        at += 1
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            return value, at
    raise Malformed


def string(block: bytes, at: int) -> tuple[str, int]:
    """The string literal at `at` (section 5.2), and the offset after it. Raises Malformed, HPACKDecodingError, and
    IndexError where the block ends within the string."""
    is_huffman = block[at] & 0x80
    length, at = integer(block, at, 0x7F)
    data = block[at : at + length]
    if len(data) < length:
        raise Malformed
    return (decode_huffman(data) if is_huffman else data).decode("latin-1"), at + length
