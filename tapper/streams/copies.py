"""Recognising a connection that was seen already, under a translated address.

On a node, kube-proxy translates a service's address. Captured on all interfaces, one connection then shows twice: as
the client addressed it, on the client's veth, and as the server receives it, on the server's. Both have the client's
address and port, and TCP's numbers, in common; only the server's end differs. Whichever was seen first is reported.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Generic, TypeVar

from tapper.streams.connection import Connection, Half
from tapper.streams.sequence import difference

T = TypeVar("T")

_NEAR = 1 << 20
"""How far, in bytes, a copy may be behind or ahead of the original. Another connection's number is that near by chance
once in 2,048 times, if it also shares an end; its acknowledgement number as well, once in four million."""

_MOST_AT_AN_END = 8
"""More connections than this at one address and port: it is a server's, and a copy is found by its client's end."""


class Copies(Generic[T]):
    """The connections of the node's source by their ends."""

    def __init__(self) -> None:
        self._at: dict[bytes, dict[Connection[T], None]] = {}
        self._ends: dict[Connection[T], dict[bytes, None]] = {}

    def add(self, connection: Connection[T], key: bytes) -> None:
        """Have it found by both ends of this key, and by their addresses. A copy's key may be added to its own."""
        places = self._ends.setdefault(connection, {})
        for end in _ends(key):
            for place in (end, end[:-2]):
                places[place] = None
                self._at.setdefault(place, {})[connection] = None

    def remove(self, connection: Connection[T]) -> None:
        for place in self._ends.pop(connection, ()):
            there = self._at[place]
            del there[connection]
            if not there:
                del self._at[place]

    def at(self, place: bytes) -> Collection[Connection[T]]:
        """Those with this address, or address and port, at either end: translated or not."""
        return self._at.get(place, ())

    def original(self, key: bytes, seq: int, ack: int, *, syn: bool) -> Connection[T] | None:
        """The known connection of which the first packet of an unknown one is a copy.

        `ack` is 0 where the packet acknowledges nothing.
        """
        ends = _ends(key)
        for position, end in enumerate(ends):
            connections = self._at.get(end, ())
            if len(connections) > _MOST_AT_AN_END:
                continue
            for connection in connections:
                for half in connection.halves:
                    if _ends(half.key)[position] == end and _agree(half, seq, ack, syn=syn):
                        return connection
        return None


def _ends(key: bytes) -> tuple[bytes, bytes]:
    """Source and destination of a packet's key, each as address and port."""
    width = (len(key) - 4) // 2
    return key[:width] + key[-4:-2], key[width:-4] + key[-2:]


def _agree(half: Half[T], seq: int, ack: int, *, syn: bool) -> bool:
    if syn:
        return half.stream.from_start and half.stream.syn(seq)
    mine, other = half.stream.next_seq, half.peer.stream.next_seq
    if mine is None or abs(difference(seq, mine)) > _NEAR:
        return False
    return other is None or not ack or abs(difference(ack, other)) <= _NEAR
