"""One direction of a TCP connection: segments in, in any order; bytes out, in order.

What a passive reader knows and does not: it sees what crossed the capture point, which is not always what the receiver
got. A segment may be missing here although it arrived there. The receiver's acknowledgements tell the two apart: once
they pass a hole, the bytes of the hole were delivered and will never be sent again, so waiting is over and the hole is
said as a Gap. Where two segments disagree about a byte, the copy that was seen first wins, always.

Positions are unbounded integers whose low 32 bits are the sequence number, so nothing in here wraps.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, TypeAlias

from tapper.runtime.native import mypyc_attr
from tapper.streams.sequence import MASK, unwrap

SEGMENT_COST: Final = 128
"""What a buffered segment is counted for beyond its bytes, so that a million one-byte segments are not free."""

MOST_IN_FLIGHT: Final = 1 << 20
"""What a sender may still send after its peer has reset the connection, in bytes."""
FAR: Final = 1 << 26
"""64 MiB: no receiver's window reaches so far, nor does a repeated segment come from so far back."""

_BASE: Final = 1 << 32  # positions start here, so that data before the first byte seen still has a positive one


@mypyc_attr(acyclic=True)
@dataclass(slots=True)
class Data:
    """Bytes of the stream, contiguous with the chunk before. One is made for every segment, so it is not frozen, and
    its constructor can be compiled."""

    data: bytes
    ts: int
    """Nanoseconds since 1970 of the packet that brought the bytes."""
    seq: int
    """Sequence number of the first byte."""
    ack: int
    """What the sender of these bytes had received from its peer when it sent them."""

    def __init__(self, data: bytes, ts: int, seq: int, ack: int) -> None:
        self.data = data
        self.ts = ts
        self.seq = seq
        self.ack = ack


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes that are lost to this reader. `size` is None where the sequence numbers no longer tell."""

    size: int | None


@dataclass(frozen=True, slots=True)
class End:
    """The sender said FIN and every byte before it was delivered or declared lost. Comes once, last."""


Chunk: TypeAlias = Data | Gap | End


@dataclass(slots=True)
class _Piece:
    """Bytes behind a hole, at a position; no two pieces of a stream overlap."""

    start: int
    data: bytes
    ts: int
    ack: int

    @property
    def stop(self) -> int:
        return self.start + len(self.data)


_start_of = attrgetter("start")


class HalfStream:
    """Reassembles one direction. Every method returns the chunks that became deliverable, in order.

    `limit` bounds the bytes held behind a hole (with SEGMENT_COST a segment); past it the hole is given up as a Gap.
    """

    __slots__ = ("_begin", "_end", "_limit", "_pieces", "_watched", "ended", "first", "held", "position", "waiting")

    def __init__(self, limit: int = 1 << 20) -> None:
        self._limit = limit
        self.position = -1
        """Of the next byte in order; -1 before anything was seen."""
        self.first: int | None = None
        """Sequence number of the first byte, where the SYN or its acknowledgement was seen."""
        self._begin = -1  # the first position that was seen
        self._end: int | None = None  # position after the last byte, where the FIN was seen
        self._pieces: list[_Piece] = []
        self.held = 0
        """Bytes waiting behind a hole, with SEGMENT_COST for each segment."""
        self.ended = False
        self._watched = False
        self.waiting = False
        """Whether a packet of either side may change more than this stream's position: call `acknowledged` only then,
        and take nothing by `follows`."""

    @property
    def from_start(self) -> bool:
        """Whether the SYN was seen: then the first byte delivered is the first byte of the stream."""
        return self.first is not None

    @property
    def next_seq(self) -> int | None:
        """The sequence number of the next byte in order; None before anything was seen."""
        return None if self.position < 0 else self.position & MASK

    def syn(self, seq: int) -> bool:
        """The sender's SYN. False where it contradicts what was seen: then it begins another connection."""
        first = (seq + 1) & MASK
        if self.position < 0:
            self.position = self._begin = _BASE + first
        if self.first is None and self._begin & MASK == first:
            self.first = first
        return self.first == first

    def watch(self, *, on: bool) -> None:
        """Have every packet of the peer looked at, as if there were a hole; or no longer."""
        self._watched = on
        self._settle()

    @property
    def carried(self) -> bool:
        """Whether any byte was delivered."""
        return self.position > self._begin

    def follows(self, seq: int, size: int) -> bool:
        """Whether a segment's payload is what comes next, which it mostly is: then it counts as delivered. Else
        nothing is done, and it is to be pushed."""
        position = self.position
        if seq != position & MASK or position < 0 or self.waiting or self.ended:
            return False
        self.position = position + size
        return True

    def push(self, seq: int, data: bytes, ts: int, ack: int) -> list[Chunk]:
        """A segment with payload; `seq` is that of its first byte of data, `ts` in nanoseconds."""
        if self.position < 0:
            self.position = self._begin = _BASE + seq
        if self.follows(seq, len(data)):
            return [Data(data, ts, seq, ack)]
        position = self.position
        start = unwrap(seq, position)
        if self._end is not None and start + len(data) > self._end:
            data = data[: max(0, self._end - start)]  # nothing comes after FIN
        self._insert(_Piece(start, data, ts, ack))
        chunks = self._drain()
        while self.held > self._limit:
            chunks += self._give_up_hole()
        self._settle()
        return chunks

    def fin(self, seq: int) -> list[Chunk]:
        """The sender's FIN; `seq` is the number after the last byte of data. The first FIN counts."""
        if self.position < 0:
            self.position = self._begin = _BASE + seq
        if self._end is None:
            end = unwrap(seq, self.position)
            if end >= self.position:
                self._end = end
        chunks = self._drain()
        self._settle()
        return chunks

    def covers(self, seq: int, size: int) -> bool:
        """Whether these bytes may be a repeated part of what was seen, or come right after it."""
        if self.position < 0:
            return True
        start = unwrap(seq, self.position)
        if self._end is not None:
            return self._begin - 1 <= start and start + size <= self._end
        return self._begin - 1 <= start <= self.position + MOST_IN_FLIGHT

    def acknowledged(self, ack: int) -> list[Chunk]:
        """The peer's acknowledgement: whatever lies before it was delivered there, so a hole before it is for ever.
        One of bytes far beyond those that were seen says nothing: no sender has sent them (RFC 5961 section 5)."""
        if self.position < 0:
            return []
        reached = unwrap(ack, self.position)
        if reached > self.position + self.held + FAR:
            return []
        chunks: list[Chunk] = []
        while self._pieces and self._pieces[0].start <= reached:
            chunks += self._give_up_hole()
        if not self._pieces and self._end is not None and self.position < self._end < reached:
            chunks.append(Gap(self._end - self.position))  # the last bytes before FIN
            self.position = self._end
            chunks += self._drain()
        self._settle()
        return chunks

    def flush(self) -> list[Chunk]:
        """Nothing more will come: everything held, with the gaps between. The half stays usable."""
        chunks: list[Chunk] = []
        while self._pieces:
            chunks += self._give_up_hole()
        self._settle()
        return chunks

    def skip(self, ack: int) -> list[Chunk]:
        """The peer has received everything before this number, and what is missing of it here will not come."""
        chunks = self.acknowledged(ack)
        reached = unwrap(ack, self.position)
        if 0 <= self.position < reached:
            chunks.append(Gap(reached - self.position))
            self.position = reached
            chunks += self._drain()
        self._settle()
        return chunks

    def restart(self, seq: int) -> list[Chunk]:
        """The stream goes on at this number, and how much is missing is not known."""
        chunks = self.flush()
        self.position = self._begin = _BASE + seq
        self._end, self.ended = None, False
        self._settle()
        return [*chunks, Gap(None)]

    def _settle(self) -> None:
        self.waiting = self._watched or bool(self._pieces) or (self._end is not None and not self.ended)

    def _insert(self, new: _Piece) -> None:
        """Put in what is new about a segment: neither delivered before nor held already."""
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
        for piece in fresh:
            insort(self._pieces, piece, key=_start_of)
            self.held += len(piece.data) + SEGMENT_COST

    def _drain(self) -> list[Chunk]:
        """Deliver what is in order now, and End where the FIN is reached."""
        chunks: list[Chunk] = []
        ready = 0
        for piece in self._pieces:
            if piece.start != self.position:
                break
            chunks.append(Data(piece.data, piece.ts, piece.start & MASK, piece.ack))
            self.position = piece.stop
            self.held -= len(piece.data) + SEGMENT_COST
            ready += 1
        del self._pieces[:ready]
        if self.position == self._end and not self.ended:
            self.ended = True
            chunks.append(End())
        return chunks

    def _give_up_hole(self) -> list[Chunk]:
        """Declare the bytes before the first held piece lost, and deliver from there."""
        gap = Gap(self._pieces[0].start - self.position)
        self.position = self._pieces[0].start
        return [gap, *self._drain()]
