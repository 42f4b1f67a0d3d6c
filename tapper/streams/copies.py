"""Recognising a connection that was seen already, under a translated address.

On a node, kube-proxy translates a service's address. Captured on all interfaces, one connection then shows twice: as
the client addressed it, on the client's veth, and as the server receives it, on the server's. Both have the client's
address and port, and TCP's numbers, in common; only the server's end differs. Whichever was seen first is reported.
"""

from __future__ import annotations

import itertools
from typing import TypeVar

from tapper.streams.connection import Connection, Half
from tapper.streams.packet import ACK, SYN
from tapper.streams.places import Places, ends
from tapper.streams.sequence import difference

T = TypeVar("T")

_NEAR = 1 << 20
"""How far, in bytes, a copy may be behind or ahead of the original. Another connection's number is that near by chance
once in 2,048 times, if it also shares an end; its acknowledgement number as well, once in four million."""

_MOST_AT_AN_END = 8
"""More connections than this at one address and port: it is a server's, and a copy is found by its client's end."""


def original(places: Places[T], key: bytes, seq: int, ack: int, flags: int) -> Connection[T] | None:
    """The known connection of which the first packet of an unknown one is a copy."""
    syn, ack = bool(flags & SYN), ack if flags & ACK else 0
    for position, end in enumerate(ends(key)):
        kinds = places.at(end).values()
        if sum(map(len, kinds)) > _MOST_AT_AN_END:
            continue
        for connection in itertools.chain.from_iterable(kinds):
            for half in connection.halves:
                if ends(half.key)[position] == end and _agree(half, seq, ack, syn=syn):
                    return connection
    return None


def _agree(half: Half[T], seq: int, ack: int, *, syn: bool) -> bool:
    if syn:
        return half.stream.from_start and half.stream.syn(seq)
    mine, other = half.stream.next_seq, half.peer.stream.next_seq
    if mine is None or abs(difference(seq, mine)) > _NEAR:
        return False
    return other is None or not ack or abs(difference(ack, other)) <= _NEAR
