"""Halves on a pod's lo that wait: each keeps its packets until a packet tells to which connection it belongs.

A half may be one of a redirected connection (`tapper.streams.legs`). Then its other half has other addresses, and is
known by its sequence numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tapper.streams.connection import HeldSegment
from tapper.streams.legs import Candidate, Endpoint, Numbers, Pairing
from tapper.streams.packet import ACK, FIN, SYN, opener
from tapper.streams.reassembly import SEGMENT_COST
from tapper.streams.sequence import after


@dataclass(slots=True)
class Waiting:
    """One half."""

    key: bytes
    pod: Endpoint
    redirected: bool
    client: int | None = None
    """0 or 1 where a SYN told who opened: this half, or the other."""
    packets: list[tuple[int, HeldSegment]] = field(default_factory=list)
    """Only those that carry something, each with the number of its arrival."""
    held: int = 0
    last: int = 0
    _isn: int | None = None
    _next: int | None = None
    _ack: int | None = None

    def take(self, arrival: int, segment: HeldSegment) -> None:
        _, _, seq, ack, flags, _, _, payload = segment
        self.last = segment.ts
        if flags & SYN:
            self.client = opener(flags)
            self._isn = seq
        if payload or flags & (SYN | FIN):
            self.packets.append((arrival, segment))
            self.held += len(payload) + SEGMENT_COST
        if self._next is None or after(segment.end, self._next):
            self._next = segment.end
        if flags & ACK and (self._ack is None or after(ack, self._ack)):
            self._ack = ack

    def contradicts(self, isn: int) -> bool:
        """Whether a SYN with this number begins another connection than the one this half is of."""
        return self._isn != isn

    @property
    def numbers(self) -> Numbers:
        assert self._next is not None, "asked before the first packet"
        return Numbers(self._next, self._ack)


class WaitingRoom:
    """The waiting halves of one source, by key, in order of appearance."""

    def __init__(self) -> None:
        self._halves: dict[bytes, Waiting] = {}
        self._pairing = Pairing()
        self._arrivals = 0
        self.held = 0
        """Bytes held in all."""

    def __len__(self) -> int:
        return len(self._halves)

    def __iter__(self) -> Iterator[Waiting]:
        """Of those that wait now. What is done about one may make others leave: those are passed over."""
        for waiting in list(self._halves.values()):
            if self._halves.get(waiting.key) is waiting:
                yield waiting

    @property
    def oldest(self) -> Waiting:
        """Of those that wait, of which there must be one, the first that came."""
        return next(iter(self._halves.values()))

    def get(self, key: bytes) -> Waiting | None:
        return self._halves.get(key)

    def enter(self, key: bytes, pod: Endpoint, *, redirected: bool) -> Waiting:
        """A new half; `pod` is the pod's end of it."""
        waiting = self._halves[key] = Waiting(key, pod, redirected)
        return waiting

    def leave(self, waiting: Waiting) -> None:
        """It is known now, or not worth waiting for."""
        del self._halves[waiting.key]
        self._pairing.forget(waiting.key)
        self.held -= waiting.held

    def take(self, waiting: Waiting, segment: HeldSegment) -> tuple[Waiting, Waiting] | None:
        """One more packet of a half. Where it tells which two belong together: request and reply, which have left."""
        self._arrivals += 1
        before = waiting.held
        waiting.take(self._arrivals, segment)
        self.held += waiting.held - before
        candidate = Candidate(waiting.key, waiting.pod, waiting.numbers)
        token = self._pairing.offer(candidate, redirected=waiting.redirected)
        if token is None:
            return None
        other = self._halves[token]
        self.leave(waiting)
        self.leave(other)
        return (waiting, other) if waiting.redirected else (other, waiting)


def as_arrived(request: Waiting, reply: Waiting) -> list[tuple[int, HeldSegment]]:
    """What two halves kept, in the order of arrival, each segment with its side: 0 for the request, 1 for the reply."""
    kept = [(arrival, side, segment) for side, half in enumerate((request, reply)) for arrival, segment in half.packets]
    return [(side, segment) for _, side, segment in sorted(kept, key=lambda item: item[0])]
