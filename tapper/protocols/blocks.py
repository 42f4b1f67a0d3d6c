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

from tapper.protocols.fields import (
    AUTHORITY,
    DYNAMIC,
    NO_ENTRY,
    ORDINARY,
    OVERHEAD,
    STATIC,
    UNKNOWN,
    UNKNOWN_FIELDS,
    Entry,
    Field,
    Fields,
)
from tapper.protocols.headers import HeaderList, Headers
from tapper.protocols.huffman import Malformed
from tapper.protocols.literals import LITERALS, behind, number, string
from tapper.protocols.messages import HEAD_LIMIT

TABLE_LIMIT: Final = 64 * 1024
"""Largest table kept. A sender that asks for more makes its blocks unknown, no matter what it was allowed."""
_INITIAL_SIZE: Final = 4096  # SETTINGS_HEADER_TABLE_SIZE before anybody says otherwise (RFC 9113 section 6.5.2)
_CACHED: Final = 32
_SHORT: Final = 256  # octets of what is cached
_RESIZE: Final = 0x20  # and below are the literals that are not added to the table (sections 6.2.2 and 6.2.3)
_ANY: Final = -1
_NONE: Final = -2


class _Part:
    """A part of a block, and what it means."""

    __slots__ = ("added", "block", "fields", "version")

    def __init__(self, block: bytes, fields: Fields, added: list[Entry], version: int) -> None:
        self.block = block
        self.fields = fields
        self.added = added
        """Entries, in their order."""
        self.version = version
        """That of the table it refers to; _ANY where it refers to none, _NONE where it will not mean this again."""


class BlockReader:
    """Decodes the blocks of one direction, in their order. `known` tells whether the direction was seen from its start.
    Nothing raises, whatever the bytes are.

    A value that the sender does not have added to the table is often a new one each time, and what is before and behind
    it mostly is not. So a block is divided at the first such value that is not the one before, and its parts are
    remembered.
    """

    def __init__(self, *, known: bool) -> None:
        self._entries: list[Entry] = []  # the newest last
        self._limit = _INITIAL_SIZE if known else TABLE_LIMIT
        self._version = 0  # grows with each change of the table
        self._refers = False  # whether the part being read refers to the table
        self._wholes: dict[bytes, _Part] = {}  # blocks that are not divided
        self._beginning: _Part | None = None  # the last one
        self._divided: bytes | None = None  # what it was the beginning of, to the end of the value behind it
        self._values: dict[str, Entry] = {}  # where blocks were divided, by name, as they were last
        self._ends: dict[bytes, _Part] = {}
        self._bound = False  # whether one of these refers to the table
        self._listed = HeaderList()  # what the last block showed
        self.held = 0
        """Bytes in the table."""

    def forget(self) -> None:
        """Blocks were lost: from here on only what later blocks add is known."""
        self._entries.clear()
        self.held, self._limit = 0, TABLE_LIMIT
        self._changed()

    def decode(self, block: bytes) -> Fields:
        """A whole block. One that is malformed, or larger than any head may be, leaves the table unknown."""
        part = self._wholes.get(block)
        if part is not None and self._recalled(part):
            return part.fields
        try:
            return self._read(block)
        except (Malformed, IndexError):  # an index beyond the block: it ends within a field
            self.forget()
            return UNKNOWN_FIELDS

    def _read(self, block: bytes) -> Fields:
        stop, fields = len(block), Fields()
        entry: Entry | None = None
        at = after = 0
        if stop and block[0] < _RESIZE:
            entry, after = self._literal(block, 0)
            if self._stays(entry):
                entry = None
        if entry is None:
            part = self._begin(block)
            at = len(part.block)
            if at == stop:
                return self._checked(part.fields)
            fields.go_on(part.fields)
            entry, after = self._literal(block, at)
        short = entry.size < _SHORT
        if short:
            if len(self._values) >= _CACHED:
                self._values.clear()
            self._values[entry.field[0]] = entry
        if at:
            self._divided = block[:after] if short and at < _SHORT else None
        fields.add(entry)
        if after < stop:
            rest = block[after:]
            end = self._ends.get(rest)
            if end is None or not self._recalled(end):
                end = self._scan(rest, begun=True)
                self._remember(self._ends, end)
            fields.go_on(end.fields)
        return self._checked(fields)

    def _begin(self, block: bytes) -> _Part:
        """What is before the value at which the block is divided; all of it, if it is not."""
        part, divided = self._beginning, self._divided
        if part is not None and _opens(block, part.block):
            again = divided is not None and block.startswith(divided)  # then it need not be divided there
            if not again and self._recalled(part):
                return part
        part = self._scan(block, begun=False)
        if len(part.block) == len(block):
            self._remember(self._wholes, part)
        elif part.version != _NONE and len(part.block) < _SHORT:
            self._beginning = part
            self._bound = self._bound or part.version != _ANY
        return part

    def _remember(self, parts: dict[bytes, _Part], part: _Part) -> None:
        if part.version != _NONE and len(part.block) < _SHORT:
            if len(parts) >= _CACHED:
                parts.clear()
            parts[part.block] = part
            self._bound = self._bound or part.version != _ANY

    def _changed(self) -> None:
        """The table is another one. What referred to it goes, and with it the entries that are no longer in it."""
        self._version += 1
        if self._bound:
            self._wholes.clear()
            self._ends.clear()
            if self._beginning is not None and self._beginning.version != _ANY:
                self._beginning = None
            self._bound = False

    def _stays(self, entry: Entry) -> bool:
        """Whether the value is the same as before."""
        before = self._values.get(entry.field[0])
        return before is entry or (before is not None and before.field == entry.field)

    def _recalled(self, part: _Part) -> bool:
        """Whether the part means again what it meant. If so, the table is now as it is behind it."""
        if part.version >= 0 and part.version != self._version:
            return False
        if part.added:
            for entry in part.added:
                self.held += entry.size
            self._entries += part.added
            self._changed()
            self._evict()
        return True

    def _checked(self, fields: Fields) -> Fields:
        if fields.size > HEAD_LIMIT:
            raise Malformed("more fields than any head has")
        if fields.shown != self._listed.headers:  # mostly the same objects, so this costs next to nothing
            self._listed = HeaderList(fields.shown)
        fields.shown, fields.listed = self._listed.headers, self._listed
        return fields

    def _scan(self, block: bytes, *, begun: bool) -> _Part:
        """What the block says (section 6) before it would be divided; or what is left of one that has `begun`."""
        self._refers = False
        fields, entries = Fields(), self._entries
        headers: list[Field] = []
        shown: list[Field] = []
        added: list[Entry] = []
        resized = False
        size = missing = 0
        at, stop = 0, len(block)
        while at < stop:
            first = block[at]
            if first >= 0x80:  # 6.1: an entry as it is
                # Most numbers are within their prefix, and a call for each is a fifth of the time.
                index = first & 0x7F
                if index == 0x7F:
                    index, at = number(block, at, 0x7F)
                else:
                    at += 1
                if index >= DYNAMIC:
                    entry = self._dynamic(index)
                elif index:
                    entry = STATIC[index]
                else:
                    raise Malformed("index 0")
            elif first & 0xE0 == _RESIZE:  # 6.3: a new size of the table, before any field
                limit, at = number(block, at, 0x1F)
                if begun or size or limit > TABLE_LIMIT:
                    raise Malformed("a size that cannot be")
                self._limit, resized = limit, True
                self._evict()
                continue
            else:  # 6.2: a literal value, with the name of an entry or a literal one
                refers = self._refers
                entry, after = self._literal(block, at)
                if first < _RESIZE and not begun and not self._stays(entry):
                    self._refers = refers
                    break
                at = after
                if first & 0x40:  # 6.2.1: it becomes an entry
                    added.append(entry)
                    entries.append(entry)
                    self.held += entry.size  # and what goes for it, goes before the table is looked at again
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
        fields.headers, fields.shown = cast(Headers, tuple(headers)), cast(Headers, tuple(shown))
        fields.size, fields.octets = size, size - OVERHEAD * (len(headers) + missing)
        fields.complete = missing == 0
        version = self._version if self._refers else _ANY
        if added or resized:
            self._changed()
            self._evict()
            if self._refers or resized:
                version = _NONE
        return _Part(block if at == stop else block[:at], fields, added, version)

    def _literal(self, block: bytes, at: int) -> tuple[Entry, int]:
        """A field whose value is a literal (section 6.2), and where it ends."""
        begin, first = at, block[at]
        mask = 0x3F if first & 0x40 else 0x0F
        index = first & mask
        if index == mask:
            index, at = number(block, at, mask)
        else:
            at += 1
        if index >= DYNAMIC:
            name = self._dynamic(index).field[0]
            value, at = string(block, at)
            return Entry(name, value), at
        if not index:
            at = behind(block, at)
        at = behind(block, at)
        return LITERALS[block[begin:at]], at

    def _dynamic(self, index: int) -> Entry:
        """An entry of the table, by its number (section 2.3.3)."""
        if self.held > self._limit:
            self._evict()
        self._refers = True
        index -= DYNAMIC - 1
        return self._entries[-index] if index <= len(self._entries) else NO_ENTRY

    def _evict(self) -> None:
        """The oldest entries go until the table fits (section 4.4); one that is too large for it goes, too."""
        count = 0
        while self.held > self._limit:
            self.held -= self._entries[count].size
            count += 1
        if count:
            del self._entries[:count]


def _opens(block: bytes, beginning: bytes) -> bool:
    """Whether the block would be divided behind this."""
    at = len(beginning)
    return at < len(block) and block[at] < _RESIZE and block.startswith(beginning)
