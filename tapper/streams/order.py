"""Puts the two directions of a connection into an order that can have happened.

The acknowledgement number of a segment says what its sender had received. So a chunk is delivered after everything of
the other direction before that number was delivered or given up. Packets may be captured in another order on several
queues of a network card, on several interfaces or in several files: a response then comes before its request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from tapper.streams.bounds import PIECE_COST
from tapper.streams.reassembly import FAR, Chunk, Data, HalfStream
from tapper.streams.sequence import MASK, difference


class Order:
    """The chunks of one connection that wait, by side (0 or 1)."""

    __slots__ = ("_queues", "_streams", "held")

    def __init__(self, first: HalfStream, second: HalfStream) -> None:
        self._streams = (first, second)
        self._queues: tuple[deque[Chunk], deque[Chunk]] = (deque(), deque())
        self.held = 0
        """Bytes that wait, with PIECE_COST for each chunk."""

    def __bool__(self) -> bool:
        return bool(self._queues[0] or self._queues[1])

    def put(self, side: int, chunks: list[Chunk]) -> None:
        """Append chunks to the waiting ones of their side."""
        self._queues[side].extend(chunks)
        self.held += sum(map(_cost, chunks))

    def take(self) -> tuple[int, Chunk] | None:
        """The next chunk that need not wait, with its side; None where all have to wait."""
        for side, queue in enumerate(self._queues):
            if queue and not isinstance(queue[0], Data):
                return side, self._pop(side)  # a gap comes before the other side's answer to the lost bytes
        for side, queue in enumerate(self._queues):
            if queue and not is_early(queue[0], self._streams[1 - side], self._queues[1 - side]):
                return side, self._pop(side)
        return None

    def give_up(self) -> tuple[int, Chunk] | None:
        """Stop waiting for missing bytes. Where bytes are missing, their Gap is put into the queue and None returned.
        Where none are missing and all chunks wait nevertheless, the two sides contradict each other: then returns a
        chunk to deliver all the same, with its side."""
        for side, queue in enumerate(self._queues):
            if queue and isinstance(queue[0], Data):
                lost = self._streams[1 - side].skip(queue[0].ack)
                if lost:
                    self.put(1 - side, lost)
                    return None
        side = 0 if self._queues[0] else 1
        return side, self._pop(side)

    def _pop(self, side: int) -> Chunk:
        chunk = self._queues[side].popleft()
        self.held -= _cost(chunk)
        return chunk


def is_early(chunk: Chunk, peer: HalfStream, waiting: Iterable[Chunk] = ()) -> bool:
    """Whether the sender of this chunk had received bytes of its peer that are not delivered yet. `waiting` are the
    peer's chunks that are in order and wait."""
    if not isinstance(chunk, Data) or peer.position < 0:  # -1: nothing of the peer was captured
        return False
    delivered = peer.position & MASK
    for other in waiting:
        if isinstance(other, Data):
            delivered = other.seq
            break
    missing = difference(chunk.ack, delivered) - peer.ended  # a FIN takes one number
    return 0 < missing <= FAR


def _cost(chunk: Chunk) -> int:
    return PIECE_COST + (len(chunk.data) if isinstance(chunk, Data) else 0)
