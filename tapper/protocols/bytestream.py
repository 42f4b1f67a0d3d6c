"""Counts the bytes of a connection, or of the rest of one, that no reader understands."""

from __future__ import annotations

from collections.abc import Sequence

from tapper.protocols.connection_reader import ConnectionReader
from tapper.protocols.facts import ByteStream
from tapper.protocols.outcome import OPEN, ExchangeOutcome
from tapper.streams.reassembly import Data

PREVIEW = 64
"""Bytes kept of each direction's beginning."""


class ByteTally(ConnectionReader):
    """`kind` says what the bytes are, as in `ByteStream.what`."""

    __slots__ = ("_lost", "_previews", "_sizes", "_ts", "kind")

    def __init__(self, kind: str, client: int | None = None) -> None:
        super().__init__(client)
        self.kind = kind
        self._ts: int | None = None
        self._sizes = [0, 0]
        self._lost = 0
        self._previews = [b"", b""]

    @property
    def begun(self) -> bool:
        """Whether a byte was captured."""
        return self._ts is not None

    def data(self, side: int, chunk: Data) -> Sequence[ByteStream]:
        if self._ts is None:
            self._ts = chunk.ts
        if self._sizes[side] < PREVIEW:
            self._previews[side] += chunk.data[: PREVIEW - len(self._previews[side])]
        self._sizes[side] += len(chunk.data)
        return ()

    def gap(self, side: int, size: int | None) -> Sequence[ByteStream]:
        self._sizes[side] += size or 0
        self._lost += size or 0
        return ()

    def finish(self, unfinished: ExchangeOutcome = OPEN) -> Sequence[ByteStream]:  # noqa: ARG002
        """One fact; none where no byte was captured."""
        if self._ts is None:
            return ()
        client = self.client or 0
        sizes = self._sizes[client], self._sizes[1 - client]
        previews = self._previews[client], self._previews[1 - client]
        return (ByteStream(self._ts, self.kind, sizes, self._lost, previews, self.client is not None),)
