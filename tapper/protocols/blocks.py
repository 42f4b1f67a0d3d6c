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

from typing import Final, cast

from hpack.table import HeaderTable

from tapper.memo import Memo
from tapper.protocols import huffman
from tapper.protocols.fields import (
    AUTHORITY,
    NO_NAME,
    ORDINARY,
    OVERHEAD,
    UNKNOWN,
    UNKNOWN_FIELDS,
    Entry,
    Field,
    Fields,
)
from tapper.protocols.heads import Headers
from tapper.protocols.huffman import Malformed
from tapper.protocols.messages import HEAD_LIMIT

TABLE_LIMIT: Final = 64 * 1024
"""Largest table kept. A sender that asks for more makes its blocks unknown, no matter what it was allowed."""
_INITIAL_SIZE: Final = 4096  # SETTINGS_HEADER_TABLE_SIZE before anybody says otherwise (RFC 9113 section 6.5.2)
_LONGEST_SHIFT: Final = 21  # numbers of up to 28 bits: more than any length or index can be
_CACHED: Final = 32
_SHORT: Final = 256  # octets of what is cached

_NO_ENTRY: Final = Entry(NO_NAME, "")
_TABLE: Final[list[Entry]] = [
    _NO_ENTRY,  # nothing is at 0
    *(Entry(name.decode("latin-1"), value.decode("latin-1")) for name, value in HeaderTable.STATIC_TABLE),
]
_DYNAMIC: Final = 62


class BlockReader:
    """Decodes the blocks of one direction, in their order. `known` tells whether the direction was seen from its start.
    Nothing raises, whatever the bytes are."""

    def __init__(self, *, known: bool) -> None:
        self._entries: list[Entry] = []  # the newest last
        self._limit = _INITIAL_SIZE if known else TABLE_LIMIT
        # What blocks, and ends of blocks, mean while the table stays as it is.
        self._blocks: dict[bytes, Fields] = {}
        self._ends: dict[bytes, Fields] = {}
        self._shown: Headers = ()  # of the last block
        self.held = 0
        """Bytes in the table."""

    def forget(self) -> None:
        """Blocks were lost: from here on only what later blocks add is known."""
        self._entries.clear()
        self.held, self._limit = 0, TABLE_LIMIT
        self._blocks.clear()
        self._ends.clear()

    def decode(self, block: bytes) -> Fields:
        """A whole block. One that is malformed, or larger than any head may be, leaves the table unknown."""
        fields = self._blocks.get(block)
        if fields is not None:
            return fields
        try:
            return self._read(block, begun=False)
        except (Malformed, IndexError):  # an index beyond the block: it ends within a field
            self.forget()
            return UNKNOWN_FIELDS

    def _read(self, block: bytes, *, begun: bool) -> Fields:
        """What the block says (section 6), or the end of one that has `begun`."""
        fields, entries = Fields(), self._entries
        headers: list[Field] = []
        shown: list[Field] = []
        size = missing = 0
        touched = False
        at, stop = 0, len(block)
        while at < stop:
            first = block[at]
            if first >= 0x80:  # 6.1: an entry as it is
                # Most numbers are within their prefix, and a call for each is a fifth of the time.
                index = first & 0x7F
                if index == 0x7F:
                    index, at = _number(block, at, 0x7F)
                else:
                    at += 1
                if index >= _DYNAMIC:
                    index -= _DYNAMIC - 1
                    entry = entries[-index] if index <= len(entries) else _NO_ENTRY
                elif index:
                    entry = _TABLE[index]
                else:
                    raise Malformed("index 0")
            elif first & 0xE0 == 0x20:  # 6.3: a new size of the table, before any field
                limit, at = _number(block, at, 0x1F)
                if begun or size or limit > TABLE_LIMIT:
                    raise Malformed("a size that cannot be")
                self._limit, touched = limit, True
                self._evict()
                continue
            else:  # 6.2: a literal value, with the name of an entry or a literal one
                entry, at = self._literal(block, at)
                if first & 0x40:  # 6.2.1: it becomes an entry
                    touched = True
                    entries.append(entry)
                    self.held += entry.size
                    if self.held > self._limit:
                        self._evict()
            size += entry.size
            meaning = entry.meaning
            if meaning == ORDINARY:
                headers.append(entry.field)
                shown.append(entry.field)
            elif meaning == UNKNOWN:
                missing += 1
            else:
                headers.append(entry.field)
                fields.note(meaning, entry.field[1])
                if meaning <= AUTHORITY:
                    shown.append(entry.field)
            if first < 0x20 and not (begun or touched) and at < stop:
                break
        fields.headers, fields.shown = cast(Headers, tuple(headers)), cast(Headers, tuple(shown))
        fields.size, fields.octets = size, size - OVERHEAD * (len(headers) + missing)
        fields.complete = missing == 0
        if at < stop:
            # A value that the sender does not care to keep is a new one each time. What is behind it is often not.
            end = block[at:]
            fields.go_on(self._ends.get(end) or self._read(end, begun=True))
        elif touched:
            self._blocks.clear()
            self._ends.clear()
        elif stop < _SHORT:
            known = self._ends if begun else self._blocks
            if len(known) >= _CACHED:
                known.clear()
            known[block] = fields
        if fields.size > HEAD_LIMIT:
            raise Malformed("more fields than any head has")
        if fields.shown != self._shown:  # entries of the table are the same objects, so this costs next to nothing
            self._shown = fields.shown
        else:
            fields.shown = self._shown
        return fields

    def _literal(self, block: bytes, at: int) -> tuple[Entry, int]:
        """A field whose value is a literal (section 6.2), and where it ends."""
        begin, mask = at, 0x3F if block[at] & 0x40 else 0x0F
        index, at = _number(block, at, mask)
        if index >= _DYNAMIC:
            index -= _DYNAMIC - 1
            name = self._entries[-index].field[0] if index <= len(self._entries) else NO_NAME
            value, at = _string(block, at)
            return Entry(name, value), at
        if not index:
            at = _behind(block, at)
        at = _behind(block, at)
        return _LITERALS[block[begin:at]], at

    def _evict(self) -> None:
        """The oldest entries go until the table fits (section 4.4); one that is too large for it goes, too."""
        count = 0
        while self.held > self._limit:
            self.held -= self._entries[count].size
            count += 1
        del self._entries[:count]


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


def _behind(block: bytes, at: int) -> int:
    """Where a string literal (section 5.2) ends."""
    length = block[at] & 0x7F
    if length == 0x7F:
        length, at = _number(block, at, 0x7F)
    else:
        at += 1
    if at + length > len(block):
        raise Malformed("a string that goes on behind the block")
    return at + length


def _string(block: bytes, at: int) -> tuple[str, int]:
    """A string literal (section 5.2), and where it ends."""
    stop = _behind(block, at)
    coded = block[at] & 0x80
    _, at = _number(block, at, 0x7F)
    data = block[at:stop]
    return (huffman.decode(data) if coded else data.decode("latin-1")), stop


def _of_literal(block: bytes) -> Entry:
    """The field in a literal representation that refers to no entry of a dynamic table."""
    index, at = _number(block, 0, 0x3F if block[0] & 0x40 else 0x0F)
    if index:
        name = _TABLE[index].field[0]
    else:
        name, at = _string(block, at)
    return Entry(name, _string(block, at)[0])


# Such a literal means the same on all connections.
_LITERALS: Final[Memo[bytes, Entry]] = Memo(_of_literal, len)
