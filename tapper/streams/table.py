"""The table of a source's connections: which connections are in it, and when they leave it.

A quiet connection stays in the table as long as there is room. Without room the connections that were quiet for the
longest time leave. An ended connection stays for some seconds, so that late copies of its packets do not look like a
new connection.

All times are times of packets, in nanoseconds since 1970. No clock is read here, and nothing depends on the distance
between two packets' times, because the clock may be set between them.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Final, Generic, TypeVar

from tapper.streams.bounds import CONNECTION_COST, SECOND, Budget, Limits, Tally
from tapper.streams.connection import (
    UNSEEN,
    Connection,
    ConnectionEnd,
    Consumer,
    EndKind,
    HalfConnection,
    Scope,
    Suspicion,
)
from tapper.streams.decapsulation import Decapsulation
from tapper.streams.endpoint_index import EndpointIndex
from tapper.streams.legs import endpoints, is_to_envoy
from tapper.streams.pairing import PendingHalves

T = TypeVar("T")

_SWEEPS_LATE: Final = 2
"""Sweeps, one in a second of the packets' time, until missing bytes are given up."""
_ENDED_NS: Final = 3 * SECOND
"""The first sweep so long after its last packet forgets an ended connection."""


class ConnectionTable(Generic[T]):
    """The connections of one source, by the keys of their halves.

    `open_consumer` makes the reader of a new connection. `peek` makes the reader of a pod's connection to its own
    inbound listener, whose plaintext is read on another leg. Every method that returns a list returns the records that
    readers have made, in order.
    """

    def __init__(
        self,
        scope: Scope,
        open_consumer: Callable[[Connection[T]], Consumer[T]],
        limits: Limits | None = None,
        tally: Tally | None = None,
        peek: Callable[[Connection[T]], Consumer[T]] | None = None,
    ) -> None:
        self._scope = scope
        self._open_consumer = open_consumer
        self._peek = peek
        self._limits = limits or Limits()
        self.tally = tally or Tally()
        self.budget = Budget(self._limits, self.tally)
        self._decapsulation = Decapsulation(self.budget)
        self.by_endpoint: EndpointIndex[T] = EndpointIndex()
        """The connections between pods, by their ends."""
        self._halves: dict[bytes, HalfConnection[T]] = {}
        self._connections: dict[Connection[T], None] = {}  # in order of appearance
        self._pending = PendingHalves()
        self._due: dict[Connection[T], int] = {}  # the connections that a sweep may change, with their sweeps so far
        self._swept = 0
        self.newest = 0
        """The time of the last packet of a known connection."""

    @property
    def held(self) -> int:
        """Bytes held by this source: its connections, what they keep, pending halves, and unfinished packets."""
        return self.budget.held + self._pending.held + len(self._connections) * CONNECTION_COST

    @property
    def scope(self) -> Scope:
        """What may be reported, as of the last `rescope`."""
        return self._scope

    @property
    def waits(self) -> bool:
        """Whether time alone changes something: then `tell_time` has to be called once a second."""
        return bool(self._due) or self.budget.held > 0

    def rescope(self, scope: Scope) -> None:
        """Report this and nothing else from now on. Connections out of scope are forgotten, with what they hold.

        Only for the node's interfaces: a pod's lo is in scope as a whole.
        """
        self._scope = scope
        for connection in list(self._connections):
            connection.scope = scope
            # An unread connection may be a copy of a forgotten one: its next packet decides anew.
            if connection.closed or not scope.covers(*endpoints(connection.halves[0].key)):
                connection.hold(0)
                self._remove(connection)

    def pass_time(self, ts: int) -> list[T]:
        """Sweep, at most once a second: stop waiting for missing bytes, and forget ended connections."""
        if abs(ts - self._swept) < SECOND:
            return []
        self._swept = ts
        records: list[T] = []
        for connection, sweeps in list(self._due.items()):
            if connection not in self._due:
                continue
            self._due[connection] = sweeps + 1
            if connection.order and sweeps + 1 >= _SWEEPS_LATE:
                records += connection.give_up_missing()
            reset = connection.doubtful_reset
            if reset is not None and sweeps + 1 >= _SWEEPS_LATE:
                records += self._close(connection, reset)
            if connection.ended and abs(ts - connection.last) >= _ENDED_NS:
                self._remove(connection)
            elif not connection.order and not connection.ended and reset is None:
                self._due.pop(connection, None)
        return records

    def tell_time(self, now: int) -> list[T]:
        """It is `now`, although there may be no packets that say so: sweep, and let the readers of all connections that
        hold something know."""
        records = self.pass_time(now)
        for connection in list(self._connections):
            if connection.held and connection.consumer is not None:
                records += connection.consumer.pass_time(now)
                connection.weigh()
        return records

    def quiet(self, since: int, most: int) -> list[bytes]:
        """The connections without a packet since that time, the longest quiet ones first and at most `most`: the key of
        one half of each."""
        quiet = [
            connection
            for connection in self._connections
            if connection.last < since and connection.consumer is not None
        ]
        quiet.sort(key=attrgetter("last"))
        return [connection.halves[1].key for connection in quiet[:most]]

    def gone(self, keys: list[bytes], since: int) -> list[T]:
        """The connections with these keys, from `quiet`, no longer exist. They end, unless a packet has come since."""
        records: list[T] = []
        for key in keys:
            half = self._halves.get(key)
            if half is not None and half.connection.last < since and not half.connection.ended:
                records += self._give_up(half.connection, ConnectionEnd(EndKind.GONE))
                self._remove(half.connection)
        return records

    # The life of a connection.

    def _open(
        self, key: bytes, other: bytes, client: int | None, ts: int, suspect_of: Connection[T] | None = None
    ) -> tuple[Connection[T], list[T]]:
        """Add a connection. Also returns the records of connections that had to leave the table."""
        evicted: list[T] = []
        if len(self._connections) >= self._limits.connections:
            evicted = self._make_room()
        connection: Connection[T] = Connection(self._scope, key, other, client, ts, self.budget)
        self._connections[connection] = None
        for half in connection.halves:
            self._halves[half.key] = half
        if suspect_of is not None and suspect_of in self._connections:  # it may have been evicted
            connection.suspicion = Suspicion(suspect_of)
        elif self._scope.on_lo and is_to_envoy(key):
            self.tally.mesh += 1  # mostly ciphertext, on its way to Envoy; its plaintext comes on the delivery leg
            self.by_endpoint.add(connection, other, 1)
            connection.consumer = None if self._peek is None else self._peek(connection)
        else:
            self._begin_reading(connection)
        return connection, evicted

    def _begin_reading(self, connection: Connection[T]) -> None:
        if not self._scope.on_lo:
            self.by_endpoint.add(connection, connection.halves[0].key, connection.client)
        connection.consumer = self._open_consumer(connection)
        self.tally.connections += 1

    def _make_room(self) -> list[T]:
        """Remove a sixteenth of all connections: first ended ones, then connections that carried nothing, then the
        longest quiet ones."""
        records: list[T] = []
        for connection in sorted(self._connections, key=_worth)[: max(1, self._limits.connections // 16)]:
            records += self._give_up(connection)
            self._remove(connection)
        return records

    def _give_up(self, connection: Connection[T], end: ConnectionEnd = UNSEEN) -> list[T]:
        """Close a connection whose end was not captured."""
        self.tally.given_up += connection.consumer is not None
        return self._close(connection, end)

    def _close(self, connection: Connection[T], end: ConnectionEnd) -> list[T]:
        """Deliver what the connection holds and let its reader conclude. It stays in the table until it is removed."""
        if connection.ended:
            return []
        connection.end = end
        self._end(connection)
        return connection.conclude()

    def _end(self, connection: Connection[T]) -> None:
        connection.ended = True
        self._due[connection] = 0

    def _remove(self, connection: Connection[T]) -> None:
        if connection.suspicion is not None:
            connection.hold(0)
        self._connections.pop(connection, None)
        self._due.pop(connection, None)
        self.by_endpoint.remove(connection)
        for half in connection.halves:
            if self._halves.get(half.key) is half:
                del self._halves[half.key]
        for copy in connection.copies or ():
            self._remove(copy)


def _worth(connection: Connection[T]) -> tuple[bool, bool, int]:
    """The connection with the least value leaves first."""
    carried = any(half.stream.carried for half in connection.halves)
    return not connection.ended, carried, connection.last
