"""Recognises a connection that was captured before under translated addresses.

On a node, kube-proxy translates a service's address. A capture on all interfaces sees such a connection twice: on the
client's veth with the address that the client dialled, and on the server's veth with the server's address. Where the
node also masquerades, both ends differ. Nobody translates TCP's numbers, so they identify the connection: the initial
sequence numbers of both ends, which hosts choose at random (RFC 9293 section 3.4.1), or, for a connection joined
midway, the numbers of both ends at the same moment. The connection that was captured first is reported.

One number alone proves nothing, because a host may use an initial sequence number twice. So a connection with the
initial number of another one is a suspect until its SYN-ACK.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Final, TypeVar

from tapper.streams.connection import Connection, HalfConnection, Suspicion
from tapper.streams.endpoint_index import EndpointIndex
from tapper.streams.legs import endpoints
from tapper.streams.packet import ACK, SYN, TcpSegment
from tapper.streams.sequence import MASK, difference

T = TypeVar("T")

_NEAR: Final = 1 << 20
"""How many bytes a copy with one end in common may be behind or ahead of the original."""
_MOST_AT_AN_END: Final = 8
"""An endpoint with more connections is a server's; a copy is then found by its client's end."""
_AT_ONCE_NS: Final = 10_000_000
"""A packet crosses the node in less time."""
_LATEST: Final = 64
"""The number of latest connections that are compared with a connection that has no end in common."""
_MOST_KEPT: Final = 16
"""Segments of a suspect. Its SYN-ACK is among the first three, and its original's comes soon after."""
_MOST_KEPT_BYTES: Final = 64 * 1024


def original(
    index: EndpointIndex[T], opened: Iterable[Connection[T]], key: bytes, segment: TcpSegment
) -> Connection[T] | None:
    """The known connection of which this first segment of an unknown one may be a copy. `opened` are the known
    connections, the latest first.

    A SYN only raises a suspicion, and `is_copy` decides. For other segments this function decides, since both numbers
    agree.
    """
    # 1. Connections with one end in common.
    for side, end in enumerate(endpoints(key)):
        by_wire = index.at(end.packed).values()
        if sum(map(len, by_wire)) > _MOST_AT_AN_END:
            continue
        for connection in itertools.chain.from_iterable(by_wire):
            for half in connection.halves:
                if endpoints(half.key)[side] == end and _agrees(half, segment, _NEAR):
                    return connection
    # 2. Connections without a common end: captured within milliseconds, on another interface, or on the same one where
    #    a pod reaches itself by a service's address.
    compared = 0
    for connection in opened:
        if connection.suspicion is not None or connection.closed:
            continue
        compared += 1
        if compared > _LATEST:
            break
        if abs(segment.ts - connection.last) > _AT_ONCE_NS:
            continue
        elsewhere = segment.interface != connection.interface or not segment.interface
        for half in connection.halves:
            if (elsewhere or _comes_back(half, segment, key)) and _agrees(half, segment, 0):
                return connection
    return None


def is_copy(suspicion: Suspicion[T], *, at_the_end: bool = False) -> bool | None:
    """Whether the suspect's segments are those of the original; None while that is not decided. Without a decision at
    the end it is no copy: to report an exchange twice is better than to lose it."""
    first_side, first = suspicion.segments[0] if suspicion.segments else (0, None)
    # 1. A suspect that was joined midway agreed in both numbers.
    if first is not None and not first.flags & SYN:
        return True
    # 2. The SYN-ACK has to have the original's other number.
    halves = suspicion.original.halves
    for _, segment in suspicion.segments:
        if segment.flags & SYN and segment.flags & ACK:
            for half in halves:
                if half.stream.first is not None and half.peer.stream.first == segment.ack:
                    return half.stream.first == (segment.seq + 1) & MASK
    # 3. The SYN-ACK was not captured: the client's first data has to acknowledge what the original's client does.
    for side, segment in suspicion.segments:
        if first is not None and not segment.flags & SYN and segment.payload and side == first_side:
            for half in halves:
                if half.acked >= 0 and half.stream.first == (first.seq + 1) & MASK:
                    return abs(difference(segment.ack, half.acked)) <= _NEAR
    too_much = len(suspicion.segments) >= _MOST_KEPT or suspicion.held > _MOST_KEPT_BYTES
    return False if at_the_end or too_much else None


def _comes_back(half: HalfConnection[T], segment: TcpSegment, key: bytes) -> bool:
    """Whether this SYN goes to the host that sends this half."""
    return bool(segment.flags & SYN) and endpoints(key)[1].address == endpoints(half.key)[0].address


def _agrees(half: HalfConnection[T], segment: TcpSegment, near: int) -> bool:
    """Whether a segment has the numbers of this half, give or take `near` bytes."""
    if segment.flags & SYN:
        return half.stream.first == (segment.seq + 1) & MASK
    if half.stream.position < 0 or half.acked < 0 or not segment.flags & ACK:
        return False
    following = half.stream.position & MASK
    if near:
        return abs(difference(segment.seq, following)) <= near and abs(difference(segment.ack, half.acked)) <= near
    return segment.ack == half.acked and following in {segment.seq, segment.end}
