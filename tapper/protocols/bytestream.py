"""Bytes that nobody here can read: how many there were, and how they began."""

from __future__ import annotations

from tapper.protocols.facts import ByteStream
from tapper.streams.reassembly import Data

PREVIEW = 64
"""Bytes kept of each direction."""


class ByteTally:
    """Counts both directions of a connection; sides are 0 and 1."""

    __slots__ = ("_begun", "_lost", "_previews", "_sizes", "what")

    def __init__(self, what: str) -> None:
        self.what = what
        self._begun: int | None = None
        self._sizes = [0, 0]
        self._lost = 0
        self._previews = [b"", b""]

    def data(self, side: int, chunk: Data) -> None:
        if self._begun is None:
            self._begun = chunk.ts
        if self._sizes[side] < PREVIEW:
            self._previews[side] += chunk.data[: PREVIEW - len(self._previews[side])]
        self._sizes[side] += len(chunk.data)

    def gap(self, side: int, size: int | None) -> None:
        """Bytes are missing; None where nobody knows how many."""
        self._sizes[side] += size or 0
        self._lost += size or 0

    def fact(self, client: int | None) -> ByteStream | None:
        """What there was, if there was anything. `client` is the side that asked, where that is known."""
        if self._begun is None:
            return None
        one, other = (0, 1) if client is None else (client, 1 - client)
        sizes, previews = self._sizes, self._previews
        return ByteStream(
            self._begun,
            self.what,
            (sizes[one], sizes[other]),
            self._lost,
            (previews[one], previews[other]),
            client is not None,
        )
