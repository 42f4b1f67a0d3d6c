"""Header blocks of one direction of an HTTP/2 connection (HPACK, RFC 7541), read by somebody who may have come late.

A block refers to a table that the blocks before it have filled. Whoever did not see them all does not know the table,
but knows more with every block: new entries come in at the front, so an index into what was added since is certain, and
any index beyond that is said to be unknown. Nothing is ever guessed.

The table may be kept larger than the sender keeps its own: the sender's is then the front of ours, and it never refers
to what it has dropped. That is why SETTINGS_HEADER_TABLE_SIZE, which travels in the other direction, need not be
followed: a sender that makes use of it says so in a block (section 4.2).
"""

from __future__ import annotations

from typing import NamedTuple

from hpack import Decoder, HPACKError, InvalidTableIndex
from hpack.table import HeaderTable, table_entry_size

from tapper.protocols.heads import Headers
from tapper.protocols.messages import HEAD_LIMIT

TABLE_LIMIT = 64 * 1024
"""Largest table kept. A sender that asks for more makes its blocks unknown, no matter what it was allowed."""
_CACHED = 32

_UNKNOWN = b"\0"  # no field has this name: NUL is in no token (RFC 9113 section 8.2.1)


class Fields(NamedTuple):
    """What a block said."""

    headers: Headers
    """Pseudo-header fields included; bytes as latin-1 characters."""
    complete: bool
    """False where fields are missing from `headers`, because they refer to entries nobody here has seen."""


class _Table(HeaderTable):
    """A table that answers for what it does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.missed = 0
        self.touched = False
        self.added = 0

    def get_by_index(self, index: int) -> tuple[bytes, bytes]:
        try:
            return super().get_by_index(index)
        except InvalidTableIndex:
            if index < 1:
                raise
            self.missed += 1
            return _UNKNOWN, b""

    def add(self, name: bytes, value: bytes) -> None:
        self.touched = True
        self.added += table_entry_size(name, value)
        super().add(name, value)


class BlockReader:
    """Decodes the blocks of one direction, in their order. `known` tells whether the direction was seen from its start.
    Nothing raises, whatever the bytes are."""

    def __init__(self, *, known: bool) -> None:
        self._decoder = Decoder(HEAD_LIMIT)
        self._decoder.max_allowed_table_size = TABLE_LIMIT
        self._cache: dict[bytes, Fields] = {}
        self._table = self._decoder.header_table = _Table()
        if not known:
            self.forget()

    @property
    def held(self) -> int:
        """Bytes in the table, at most."""
        return min(self._table.added, self._table.maxsize)

    def forget(self) -> None:
        """Blocks were lost: from here on only what later blocks add is known."""
        self._table = self._decoder.header_table = _Table()
        self._table.maxsize = TABLE_LIMIT
        self._cache.clear()

    def decode(self, block: bytes) -> Fields:
        """A whole block. One that is malformed, or larger than any head may be, leaves the table unknown."""
        cached = self._cache.get(block)
        if cached is not None:
            return cached
        table = self._table
        table.missed, table.touched = 0, False
        try:
            decoded = self._decoder.decode(block, raw=True)
        except HPACKError:
            self.forget()
            return Fields((), complete=False)
        headers = tuple(
            (bytes(name).decode("latin-1"), bytes(value).decode("latin-1"))
            for name, value in decoded
            if name != _UNKNOWN
        )
        fields = Fields(headers, complete=table.missed == 0)
        if table.touched or (block[:1] and block[0] & 0xE0 == 0x20):  # an entry, or a new size of the table
            self._cache.clear()
        elif len(self._cache) < _CACHED and len(block) < 256:
            self._cache[block] = fields  # clients repeat themselves, and a block that changed nothing means the same
        return fields
