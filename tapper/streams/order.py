"""The two directions of a connection, put in an order that can have happened.

A segment's acknowledgement number says what its sender had received. So a chunk is told when everything before that
number was told of the other direction, or given up. Packets do not come in that order where they were captured on
several queues of a network card, on several interfaces, or in several files: an answer then comes before its question.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from tapper.streams.reassembly import FAR, Chunk, Data, HalfStream
from tapper.streams.sequence import MASK, difference

CHUNK_COST: Final = 128
"""What a chunk that waits is counted for beyond its bytes."""


def is_early(ack: int, delivered: int, peer: HalfStream) -> bool:
    """Whether a chunk with this acknowledgement number was sent when bytes of the peer had been received that are not
    told yet. `delivered` is the number after the peer's last byte that was told."""
    if peer.position < 0:
        return False  # nothing of the peer was seen
    missing = difference(ack, delivered) - peer.ended  # a FIN counts for one
    return 0 < missing <= FAR


class Order:
    """The chunks of one connection that wait, by side."""

    __slots__ = ("_queues", "_streams", "held")

    def __init__(self, first: HalfStream, second: HalfStream) -> None:
        self._streams = (first, second)
        self._queues: tuple[deque[Chunk], deque[Chunk]] = (deque(), deque())
        self.held = 0
        """Bytes that wait, with CHUNK_COST for each chunk."""

    def __bool__(self) -> bool:
        return bool(self._queues[0] or self._queues[1])

    def put(self, side: int, chunks: list[Chunk]) -> None:
        """These come after everything of their side that waits."""
        self._queues[side].extend(chunks)
        self.held += sum(map(_cost, chunks))

    def take(self) -> tuple[int, Chunk] | None:
        """The next chunk that need not wait, with its side; None where all have to."""
        for side, queue in enumerate(self._queues):
            if queue and not isinstance(queue[0], Data):
                return side, self._pop(side)  # a gap, before what was sent with the lost bytes received
        for side, queue in enumerate(self._queues):
            if queue and not self._is_early(side, queue[0]):
                return side, self._pop(side)
        return None

    def give_up(self) -> tuple[int, Chunk] | None:
        """The missing bytes that a chunk waits for will not come: there is a Gap for them to `take` now. Where none are
        missing and yet nothing can be taken, the two sides contradict each other: then a chunk, with its side, which is
        told all the same."""
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

    def _is_early(self, side: int, chunk: Chunk) -> bool:
        if not isinstance(chunk, Data):
            return False
        peer = self._streams[1 - side]
        delivered = peer.position & MASK
        for waiting in self._queues[1 - side]:
            if isinstance(waiting, Data):
                delivered = waiting.seq
                break
        return is_early(chunk.ack, delivered, peer)


def _cost(chunk: Chunk) -> int:
    return CHUNK_COST + (len(chunk.data) if isinstance(chunk, Data) else 0)
