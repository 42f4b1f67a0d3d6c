"""Finds the two halves of a redirected connection on a pod's lo.

The halves of a redirected connection (`tapper.streams.legs`) do not have mirrored addresses and ports, so a reader that
looks at addresses never joins them (istio/istio#22915). Even the pod's port may differ: sockets that share one port
towards several destinations get other ports towards 15001, while the replies go to the shared port.

TCP's numbers cannot differ: each side acknowledges what the other side sent. So a half waits, with its segments, until
one half has acknowledged exactly what another half of the same pod address has sent: a SYN-ACK its SYN, or midway
`a.next == b.ack` or `a.ack == b.next`. Where several halves agree, a half with the same pod port comes first. Where
that leaves more than one half, the half waits for its next segment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from tapper.streams.bounds import HALF_COST, SEGMENT_COST
from tapper.streams.legs import Endpoint
from tapper.streams.packet import ACK, FIN, SYN, TcpSegment, opener
from tapper.streams.sequence import after


@dataclass(slots=True, eq=False)
class PendingHalf:
    """One half that waits for its other half."""

    key: bytes
    pod: Endpoint
    """The pod's end: the source of requests, the destination of replies."""
    redirected: bool
    """Whether the half carries requests."""
    client: int | None = None
    """0 where a SYN showed that this half opened the connection, 1 where the other half did; None without a SYN."""
    segments: list[tuple[int, TcpSegment]] = field(default_factory=list)
    """The segments that carry something, each with the number of its arrival."""
    held: int = HALF_COST
    """Bytes that the half takes: these segments, with SEGMENT_COST for each, and HALF_COST."""
    last: int = 0
    """Time of the last packet, in nanoseconds since 1970."""
    isn: int | None = None
    """The initial sequence number; None without a SYN."""
    next: int | None = None
    """The sequence number after the last byte sent; None before the first packet."""
    ack: int | None = None
    """The last acknowledgement number; None before the first, as in a first SYN."""

    def take(self, arrival: int, segment: TcpSegment) -> None:
        """One more segment of this half."""
        self.last = segment.ts
        if segment.flags & SYN:
            self.client = opener(segment.flags)
            self.isn = segment.seq
        if segment.payload or segment.flags & (SYN | FIN):
            self.segments.append((arrival, segment))
            self.held += len(segment.payload) + SEGMENT_COST
        if self.next is None or after(segment.end, self.next):
            self.next = segment.end
        if segment.flags & ACK and (self.ack is None or after(segment.ack, self.ack)):
            self.ack = segment.ack


_Number: TypeAlias = tuple[bool, str, bytes, int]
"""(carries requests, "next" or "ack", the pod's address, the number): what the other half is looked up by."""


class PendingHalves:
    """The pending halves of one source, by key, in order of appearance."""

    def __init__(self) -> None:
        self._halves: dict[bytes, PendingHalf] = {}
        self._by_number: dict[_Number, dict[bytes, PendingHalf]] = {}
        self._arrivals = 0
        self.held = 0
        """Bytes held in all."""

    def __len__(self) -> int:
        return len(self._halves)

    def __iter__(self) -> Iterator[PendingHalf]:
        """The halves that wait now. Halves that leave during the iteration are skipped."""
        for half in list(self._halves.values()):
            if self._halves.get(half.key) is half:
                yield half

    @property
    def oldest(self) -> PendingHalf:
        """The half that waits longest. There must be one."""
        return next(iter(self._halves.values()))

    def get(self, key: bytes) -> PendingHalf | None:
        return self._halves.get(key)

    def add(self, key: bytes, pod: Endpoint, *, redirected: bool) -> PendingHalf:
        """A new half; `pod` is the pod's end of it."""
        half = self._halves[key] = PendingHalf(key, pod, redirected)
        self.held += half.held
        return half

    def remove(self, half: PendingHalf) -> None:
        """The half waits no longer."""
        del self._halves[half.key]
        self._unindex(half)
        self.held -= half.held

    def take(self, half: PendingHalf, segment: TcpSegment) -> tuple[PendingHalf, PendingHalf] | None:
        """One more segment of a half. Returns the half with requests and the half with replies where the segment
        shows that two belong together; both have left then."""
        self._arrivals += 1
        self._unindex(half)
        self.held -= half.held
        half.take(self._arrivals, segment)
        self.held += half.held
        for number in _numbers(half):
            self._by_number.setdefault(number, {})[half.key] = half
        other = self._other_half(half)
        if other is None:
            return None
        self.remove(half)
        self.remove(other)
        return (half, other) if half.redirected else (other, half)

    def _other_half(self, half: PendingHalf) -> PendingHalf | None:
        assert half.next is not None, "a half is looked up after its first segment"
        address = half.pod.address
        agreeing = dict(self._by_number.get((not half.redirected, "ack", address, half.next), {}))
        if half.ack is not None:
            agreeing |= self._by_number.get((not half.redirected, "next", address, half.ack), {})
        same_port = [other for other in agreeing.values() if other.pod.port == half.pod.port]
        best = same_port or list(agreeing.values())
        return best[0] if len(best) == 1 else None

    def _unindex(self, half: PendingHalf) -> None:
        for number in _numbers(half):
            halves = self._by_number[number]
            del halves[half.key]
            if not halves:
                del self._by_number[number]


def _numbers(half: PendingHalf) -> Iterator[_Number]:
    """The numbers that this half is found by."""
    if half.next is not None:
        yield half.redirected, "next", half.pod.address, half.next
    if half.ack is not None:
        yield half.redirected, "ack", half.pod.address, half.ack


def as_arrived(request: PendingHalf, reply: PendingHalf) -> list[tuple[int, TcpSegment]]:
    """The segments of two halves in the order of arrival, each with its side: 0 for requests, 1 for replies."""
    segments = [
        (arrival, side, segment) for side, half in enumerate((request, reply)) for arrival, segment in half.segments
    ]
    return [(side, segment) for _, side, segment in sorted(segments, key=lambda item: item[0])]
