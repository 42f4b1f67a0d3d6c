"""One direction of a TCP connection: segments in, in any order; bytes out, in order.

A passive reader sees the packets that crossed the place of capture. That is not always what the receiver got: a segment
may be missing here although it arrived there. The receiver's acknowledgements tell the two apart. Once they pass a
hole, the bytes of the hole were delivered and will never be sent again. Then the reader stops waiting and reports the
hole as a Gap. Where two segments have different bytes at one position, the bytes that were captured first count.

Positions are unbounded integers. Their low 32 bits are the sequence number, so no position wraps.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, TypeAlias

from tapper.runtime.native import mypyc_attr
from tapper.streams.bounds import PIECE_COST
from tapper.streams.sequence import MASK, unwrap

MOST_IN_FLIGHT: Final = 1 << 20
"""Bytes that a sender may still send after its peer has reset the connection."""
FAR: Final = 1 << 26
"""64 MiB: no receiver's window reaches so far, and no repeated segment comes from so far back."""
_BASE: Final = 1 << 32  # positions start here, so that bytes before the first captured one have positive positions


@mypyc_attr(acyclic=True)
@dataclass(slots=True)
class Data:
    """Bytes of the stream that follow directly on the chunk before. One is made for every segment, so it is not frozen:
    that lets its constructor be compiled."""

    data: bytes
    ts: int
    """Time of the packet that brought the bytes, in nanoseconds since 1970."""
    seq: int
    """Sequence number of the first byte."""
    ack: int
    """The acknowledgement number of that packet: what its sender had received from its peer."""

    def __init__(self, data: bytes, ts: int, seq: int, ack: int) -> None:
        self.data = data
        self.ts = ts
        self.seq = seq
        self.ack = ack


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes that were not captured. `size` is None where the sequence numbers do not tell how many."""

    size: int | None


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The sender's FIN. Every byte before it was delivered or reported as a Gap. Comes once, last."""


Chunk: TypeAlias = Data | Gap | StreamEnd


@dataclass(slots=True)
class _Piece:
    """Bytes at a position. No two held pieces of a stream overlap."""

    start: int
    data: bytes
    ts: int
    ack: int

    @property
    def stop(self) -> int:
        return self.start + len(self.data)


_start_of = attrgetter("start")


_NO_PIECES: Final[list[_Piece]] = []
"""All streams without a hole share it. Nothing is put into it."""


class HalfStream:
    """Reassembles one direction. Each method returns the chunks that have become deliverable, in order.

    `limit` bounds the bytes held behind a hole, with PIECE_COST for each segment. Beyond it the hole is reported as a
    Gap.
    """

    __slots__ = ("_end", "_limit", "_pieces", "begin", "ended", "first", "held", "position")

    def __init__(self, limit: int = 1 << 20) -> None:
        self._limit = limit
        self.position = -1
        """Position of the next byte in order; -1 before the first packet."""
        self.first: int | None = None
        """Sequence number of the first byte; None unless the SYN or its acknowledgement was captured."""
        self.begin = -1
        """The first known position."""
        self._end: int | None = None
        """The position after the last byte; None before the FIN."""
        self._pieces = _NO_PIECES
        """The bytes behind a hole, by position."""
        self.held = 0
        """Bytes behind a hole, with PIECE_COST for each segment."""
        self.ended = False
        """Whether StreamEnd was returned."""

    @property
    def in_order(self) -> bool:
        """Whether the stream has begun, holds nothing behind a hole, and its sender has not said FIN."""
        return self.position >= 0 and not self._pieces and self._end is None

    @property
    def from_start(self) -> bool:
        """Whether the first byte delivered is the first byte of the stream."""
        return self.first is not None

    @property
    def carried(self) -> bool:
        """Whether any byte was delivered."""
        return self.position > self.begin

    def syn(self, seq: int) -> bool:
        """The sender's SYN. False where its number contradicts the stream: then it begins another connection."""
        first = (seq + 1) & MASK
        self._begin_at(first)
        if self.first is None and self.begin & MASK == first:
            self.first = first
        return self.first == first

    def push(self, seq: int, data: bytes, ts: int, ack: int) -> list[Chunk]:
        """A segment with payload; `seq` is the number of its first byte, `ts` in nanoseconds since 1970."""
        self._begin_at(seq)
        start = unwrap(seq, self.position)
        if self._end is not None and start + len(data) > self._end:
            data = data[: max(0, self._end - start)]  # no bytes come after FIN
        if start == self.position and data and self._end is None and not self._pieces:
            self.position += len(data)
            return [Data(data, ts, seq, ack)]
        self._insert(_Piece(start, data, ts, ack))
        chunks = self._drain()
        while self.held > self._limit:
            chunks += self._give_up_hole()
        return chunks

    def fin(self, seq: int) -> list[Chunk]:
        """The sender's FIN; `seq` is the number after the last byte. The first FIN counts."""
        self._begin_at(seq)
        if self._end is None:
            end = unwrap(seq, self.position)
            if end >= self.position:
                self._end = end
        return self._drain()

    def covers(self, seq: int, size: int) -> bool:
        """Whether these bytes may repeat captured bytes, or follow them closely."""
        if self.position < 0:
            return True
        start = unwrap(seq, self.position)
        if self._end is not None:
            return self.begin - 1 <= start and start + size <= self._end
        return self.begin - 1 <= start <= self.position + MOST_IN_FLIGHT

    def acknowledged(self, ack: int) -> list[Chunk]:
        """The peer's acknowledgement. Holes before it will never be filled. An acknowledgement far beyond the captured
        bytes is ignored: no sender has sent such bytes (RFC 5961 section 5)."""
        if self.position < 0:
            return []
        reached = unwrap(ack, self.position)
        if reached > self.position + self.held + FAR:
            return []
        chunks: list[Chunk] = []
        while self._pieces and self._pieces[0].start <= reached:
            chunks += self._give_up_hole()
        if not self._pieces and self._end is not None and self.position < self._end < reached:
            chunks += self._skip_to(self._end)  # the last bytes before FIN are missing
        return chunks

    def skip(self, ack: int) -> list[Chunk]:
        """The peer has received everything before this number, so bytes before it that are missing here will not
        come."""
        chunks = self.acknowledged(ack)
        reached = unwrap(ack, self.position)
        if 0 <= self.position < reached:
            chunks += self._skip_to(reached)
        return chunks

    def flush(self) -> list[Chunk]:
        """Deliver everything that is held, with the gaps between. The stream stays usable."""
        chunks: list[Chunk] = []
        while self._pieces:
            chunks += self._give_up_hole()
        return chunks

    def conclude(self, ack: int) -> list[Chunk]:
        """Nothing more will come. `ack` is the last number that the peer has acknowledged, -1 without any: bytes before
        it that are missing here were sent. One missing number may be that of a FIN."""
        chunks = self.flush()
        is_known = ack >= 0 and self.position >= 0 and not self.ended
        return chunks + self.skip(ack) if is_known and 1 < unwrap(ack, self.position) - self.position <= FAR else chunks

    def restart(self, seq: int) -> list[Chunk]:
        """The stream goes on at this number, and how many bytes are missing is not known."""
        chunks = self.flush()
        self.position = self.begin = _BASE + seq
        self._end, self.ended = None, False
        return [*chunks, Gap(None)]

    def _begin_at(self, seq: int) -> None:
        """The first packet tells where the stream begins."""
        if self.position < 0:
            self.position = self.begin = _BASE + seq

    def _insert(self, new: _Piece) -> None:
        """Hold the bytes of a segment that were neither delivered nor are held already."""
        index = bisect_right(self._pieces, new.start, key=_start_of)
        cursor = max(new.start, self.position)
        if index:
            cursor = max(cursor, self._pieces[index - 1].stop)
        fresh = []
        while cursor < new.stop:
            ahead = self._pieces[index] if index < len(self._pieces) else None
            stop = new.stop if ahead is None else min(new.stop, ahead.start)
            if cursor < stop:
                fresh.append(_Piece(cursor, new.data[cursor - new.start : stop - new.start], new.ts, new.ack))
            if ahead is None:
                break
            cursor = max(cursor, ahead.stop)
            index += 1
        if fresh and not self._pieces:
            self._pieces = []
        for piece in fresh:
            insort(self._pieces, piece, key=_start_of)
            self.held += len(piece.data) + PIECE_COST

    def _drain(self) -> list[Chunk]:
        """Deliver the held bytes that are in order now, and StreamEnd where the FIN is reached."""
        chunks: list[Chunk] = []
        ready = 0
        for piece in self._pieces:
            if piece.start != self.position:
                break
            chunks.append(Data(piece.data, piece.ts, piece.start & MASK, piece.ack))
            self.position = piece.stop
            self.held -= len(piece.data) + PIECE_COST
            ready += 1
        if ready:
            del self._pieces[:ready]
            self._pieces = self._pieces or _NO_PIECES
        if self.position == self._end and not self.ended:
            self.ended = True
            chunks.append(StreamEnd())
        return chunks

    def _give_up_hole(self) -> list[Chunk]:
        """Report the bytes before the first held piece as missing, and deliver from there."""
        return self._skip_to(self._pieces[0].start)

    def _skip_to(self, position: int) -> list[Chunk]:
        gap = Gap(position - self.position)
        self.position = position
        return [gap, *self._drain()]
