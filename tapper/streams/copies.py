"""Recognising a connection that was seen already, under translated addresses.

On a node, kube-proxy translates a service's address. Captured on all interfaces, one connection then shows twice: as
the client addressed it, on the client's veth, and as the server receives it, on the server's. Where the node also
masquerades, both ends differ. What nobody translates are TCP's numbers, so they tell: the initial sequence numbers of
both ends, 64 bits that hosts choose at random (RFC 9293 section 3.4.1), or for a connection joined midway the numbers
of both ends at the same moment. Whichever was seen first is reported.

One number alone tells nothing: a host may use an initial sequence number twice. So a connection whose SYN looks like
another's waits for its SYN-ACK.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

from tapper.streams.connection import Connection, Half, HeldSegment, Suspicion
from tapper.streams.packet import ACK, SYN
from tapper.streams.places import Places, ends
from tapper.streams.sequence import MASK, difference

T = TypeVar("T")

_NEAR: Final = 1 << 20
"""How far, in bytes, a copy with one end in common may be behind or ahead of the original."""
_MOST_AT_AN_END: Final = 8
"""More connections than this at one address and port: it is a server's, and a copy is found by its client's end."""
_AT_ONCE_NS: Final = 10_000_000
"""A packet crosses the node in less time."""
_LATEST: Final = 64
"""How many of the connections that were opened last are compared with one that has no end in common."""
_MOST_KEPT: Final = 16
"""Segments of a suspect. Its SYN-ACK is among the first three, and its original's comes soon after."""
_MOST_KEPT_BYTES: Final = 64 * 1024


def original(
    places: Places[T], opened: Iterable[Connection[T]], key: bytes, segment: HeldSegment
) -> Connection[T] | None:
    """The known connection of which this first segment of an unknown one may be a copy. `opened` are the known ones,
    the latest first.

    Where no end is the same, the two were seen on two interfaces within milliseconds. A SYN is only a suspicion, for
    `is_copy` to decide; for other segments this decides, since both numbers agree.
    """
    for position, end in enumerate(ends(key)):
        kinds = places.at(end).values()
        if sum(map(len, kinds)) > _MOST_AT_AN_END:
            continue
        for connection in itertools.chain.from_iterable(kinds):
            for half in connection.halves:
                if ends(half.key)[position] == end and _agree(half, segment, _NEAR):
                    return connection
    for connection in itertools.islice(_read(opened), _LATEST):
        elsewhere = segment.interface != connection.interface or not segment.interface
        if elsewhere and abs(segment.ts - connection.last) <= _AT_ONCE_NS:
            for half in connection.halves:
                if _agree(half, segment, 0):
                    return connection
    return None


def is_copy(suspicion: Suspicion[T], *, at_the_end: bool = False) -> bool | None:
    """Whether the segments that were kept are those of the original; None where that cannot be told yet. What cannot be
    told at the end is no copy: better told twice than not at all."""
    found = suspicion.original
    for _, segment in suspicion.segments:
        if segment.flags & SYN and segment.flags & ACK:
            for half in found.halves:
                if half.stream.first is not None and half.peer.stream.first == segment.ack:
                    return half.stream.first == (segment.seq + 1) & MASK
    first_side = suspicion.segments[0][0]
    for side, segment in suspicion.segments:
        if not segment.flags & SYN and segment.payload and side == first_side:  # the SYN-ACK was not seen
            for half in found.halves:
                if half.acked >= 0 and half.stream.first == (suspicion.segments[0][1].seq + 1) & MASK:
                    return abs(difference(segment.ack, half.acked)) <= _NEAR
    too_much = len(suspicion.segments) >= _MOST_KEPT or suspicion.held > _MOST_KEPT_BYTES
    return False if at_the_end or too_much else None


def _read(opened: Iterable[Connection[T]]) -> Iterator[Connection[T]]:
    """Those that are read themselves."""
    return (connection for connection in opened if connection.suspicion is None and not connection.closed)


def _agree(half: Half[T], segment: HeldSegment, near: int) -> bool:
    """Whether a segment has the numbers of this half, give or take so many bytes."""
    if segment.flags & SYN:
        return half.stream.first == (segment.seq + 1) & MASK
    if half.stream.position < 0 or half.acked < 0 or not segment.flags & ACK:
        return False
    following = half.stream.position & MASK
    if near:
        return abs(difference(segment.seq, following)) <= near and abs(difference(segment.ack, half.acked)) <= near
    return segment.ack == half.acked and following in {segment.seq, segment.end}
