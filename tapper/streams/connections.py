"""Packets of one source in; for each connection, chunks of its two directions out to a consumer.

A source is one place of capture: a pod's lo, or the node's interfaces. Each has its own table, so equal addresses and
ports in two pods are two connections. Within a source the same packet may pass several interfaces; its copies are then
retransmissions to the reassembler, which delivers bytes once.

Most connections have mirrored halves and exist from their first packet. On a pod's lo a half may instead belong to a
redirected connection: it waits (`tapper.streams.waiting`) until a half with mirrored addresses or its other half by
sequence numbers appears. A connection that ended stays in the table a little longer: a late copy is none that is new.

Time is the packets' time, in nanoseconds; nothing in here reads a clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from tapper.streams.bounds import SECOND, Limits, Tally
from tapper.streams.connection import Connection, Consumer, Half, Scope, taken
from tapper.streams.copies import original
from tapper.streams.legs import endpoints, is_mesh_internal, is_redirected, is_to_envoy, may_be_reply
from tapper.streams.packet import ACK, FIN, RST, SYN, Packet, Segment, mirror, opener, parse
from tapper.streams.places import Places
from tapper.streams.reassembly import Chunk, Data, Gap
from tapper.streams.waiting import Waiting, WaitingRoom, as_arrived

T = TypeVar("T")

_EDGE: Final = SYN | FIN | RST


class Connections(Generic[T]):
    """The connections of one source. `open_consumer` makes the reader of a new connection; what the readers return is
    what every method here returns, in order. `peek` makes the reader of a pod's connection to its own inbound listener,
    of which the plaintext is read elsewhere."""

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
        self.places: Places[T] = Places()
        """Where those on a wire lead."""
        self._halves: dict[bytes, Half[T]] = {}
        self._connections: dict[Connection[T], None] = {}  # in order of appearance
        self._waiting = WaitingRoom()
        self._swept: int | None = None
        self.newest = 0
        """The time of the last packet of a known connection."""
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes held by this source: behind holes, in waiting halves, in unfinished messages."""
        return self._held + self._waiting.held

    @property
    def scope(self) -> Scope:
        """What may be reported, as of the last `rescope`."""
        return self._scope

    def packets(self, memory: bytes, found: list[Packet], made: list[T]) -> None:
        """Some IP packets. What each of them makes goes into `made`, before the next is read."""
        self.tally.packets += len(found)
        halves = self._halves
        for ts, _, begin, end in found:
            key, seq, ack, flags, start, stop = parse(memory, begin, end)
            half = halves.get(key)
            # The two cases that make up nearly all packets: an acknowledgement that changes nothing, and data in order.
            if half is None or flags & _EDGE or half.peer.stream.waiting:
                made += self._unusual(half, ts, memory, (key, seq, ack, flags, start, stop))
                continue
            connection = half.connection
            connection.last = self.newest = ts
            consumer = connection.consumer
            if start == stop or consumer is None:
                continue
            payload = memory[start:stop]
            if not half.stream.follows(seq, stop - start):
                made += self._deliver(half, half.stream.push(seq, payload, ts, ack))
                continue
            seen = consumer.data(half.side, Data(payload, ts, seq, ack))
            if seen:
                made += seen
            grown = consumer.held - connection.held
            if grown:
                self._held += grown
                connection.held += grown
                if grown > 0 and self.held > self._limits.held_bytes:
                    made += self.relieve(self._limits.held_bytes * 3 // 4)

    def finish(self) -> list[T]:
        """Nothing more will come: every connection is closed and forgotten."""
        done: list[T] = []
        for waiting in self._waiting:
            done += self._alone(waiting)
        for connection in list(self._connections):
            done += self._close(connection)
            self._remove(connection)
        return done

    def rescope(self, scope: Scope) -> None:
        """From now on report this and nothing else: what is known of connections out of scope is thrown away.

        Only for the node's interfaces: a pod's lo is in scope as a whole.
        """
        self._scope = scope
        for connection in list(self._connections):
            connection.scope = scope
            # what nobody reads may be a copy of what is thrown away: the next packet decides anew
            if connection.closed or not scope.covers(*endpoints(connection.halves[0].key)):
                self._held -= connection.held
                self._remove(connection)

    def relieve(self, bound: int) -> list[T]:
        """Give up the oldest connections that hold memory until at most `bound` bytes are held."""
        done: list[T] = []
        for waiting in self._waiting:
            if self.held <= bound:
                return done
            if waiting.held:
                done += self._alone(waiting)
        for connection in list(self._connections):
            if self.held <= bound:
                break
            if connection.held:
                self.tally.given_up += 1
                done += self._close(connection)
        return done

    # Packets that are not the usual ones.

    def _unusual(self, half: Half[T] | None, ts: int, memory: bytes, segment: Segment) -> list[T]:
        key, seq, ack, flags, start, stop = segment
        if not key:
            self.tally.malformed += 1
            return []
        payload = memory[start:stop]
        if half is None:
            return self._strange(ts, segment, payload)
        half.connection.last = self.newest = ts
        if flags & SYN and not half.stream.syn(seq):
            done = self._close(half.connection)
            self._remove(half.connection)
            return [*done, *self._strange(ts, segment, payload)]
        return self._apply(half, ts, seq, ack, flags, payload)

    def _strange(self, ts: int, segment: Segment, payload: bytes) -> list[T]:
        key, seq, ack, flags, _, _ = segment
        on_lo = self._scope.on_lo
        if on_lo and is_mesh_internal(key):
            self.tally.mesh += 1
            return []
        source, destination = endpoints(key)
        if not self._scope.covers(source, destination):
            return []
        done = self._sweep(ts)
        waiting = self._waiting.get(key)
        if waiting is not None:
            if not (flags & SYN and waiting.contradicts(seq)):
                return [*done, *self._wait(waiting, ts, seq, ack, flags, payload)]
            done += self._alone(waiting)
        if flags & RST or not (payload or flags & SYN or on_lo):
            return done  # nothing can begin with this
        opposite = self._waiting.get(mirror(key)) if on_lo else None
        if opposite is not None:
            half, replayed = self._symmetric(opposite, both_ways=True)
            return [*done, *replayed, *self._apply(half, ts, seq, ack, flags, payload)]
        redirected = on_lo and is_redirected(destination)
        if redirected or (on_lo and flags & (SYN | ACK) != SYN and may_be_reply(source, destination)):
            if len(self._waiting) >= self._limits.waiting:
                self.tally.given_up += 1
                done += self._alone(self._waiting.oldest)
            waiting = self._waiting.enter(key, source if redirected else destination, redirected=redirected)
            return [*done, *self._wait(waiting, ts, seq, ack, flags, payload)]
        known = None if on_lo else original(self.places, key, seq, ack, flags)
        connection, evicted = self._open(key, mirror(key), opener(flags), ts, known)
        return [*done, *evicted, *self._apply(connection.halves[0], ts, seq, ack, flags, payload)]

    def _wait(self, waiting: Waiting, ts: int, seq: int, ack: int, flags: int, payload: bytes) -> list[T]:
        """One more packet of a half that waits; perhaps the one that tells where it belongs."""
        pair = self._waiting.take(waiting, ts, seq, ack, flags, payload)
        if pair is not None:
            return self._paired(*pair)
        return self._alone(waiting) if waiting.held > self._limits.waiting_bytes else []

    def _paired(self, request: Waiting, reply: Waiting) -> list[T]:
        """The two halves of a redirected connection become one, and what was held is delivered as it arrived."""
        connection, done = self._open(request.key, reply.key, 0, max(request.last, reply.last))
        for side, packet in as_arrived(request, reply):
            done += self._apply(connection.halves[side], *packet[1:])
        return done

    def _symmetric(self, waiting: Waiting, *, both_ways: bool) -> tuple[Half[T], list[T]]:
        """A waiting half is taken for one of an ordinary connection. Returns the other half."""
        self._waiting.leave(waiting)
        connection, done = self._open(waiting.key, mirror(waiting.key), waiting.client, waiting.last)
        connection.both_ways = both_ways
        for packet in waiting.packets:
            done += self._apply(connection.halves[0], *packet[1:])
        return connection.halves[1], done

    def _alone(self, waiting: Waiting) -> list[T]:
        """No other half will be looked for any longer."""
        if not waiting.packets:
            self._waiting.leave(waiting)
            return []
        return self._symmetric(waiting, both_ways=False)[1]

    # Connections.

    def _open(
        self, key: bytes, other: bytes, client: int | None, ts: int, copied: Connection[T] | None = None
    ) -> tuple[Connection[T], list[T]]:
        done: list[T] = []
        if len(self._connections) >= self._limits.connections:
            oldest = next(iter(self._connections))
            self.tally.given_up += not oldest.closed
            done = self._close(oldest)
            self._remove(oldest)
        connection: Connection[T] = Connection(self._scope, key, other, client, ts, self._limits.hole_bytes)
        self._connections[connection] = None
        for half in connection.halves:
            self._halves[half.key] = half
        if self._scope.on_lo and is_to_envoy(key):
            self.tally.mesh += 1  # mostly ciphertext, on its way to Envoy; its plaintext comes on the delivery leg
            self.places.add(connection, other, 1)
            connection.consumer = None if self._peek is None else self._peek(connection)
        elif copied is not None:
            self.tally.copies += 1
            if copied in self._connections:  # it may have been the oldest
                self.places.add(copied, key, client)
        else:
            if not self._scope.on_lo:
                self.places.add(connection, key, client)
            connection.consumer = self._open_consumer(connection)
            self.tally.connections += 1
        return connection, done

    def _apply(self, half: Half[T], ts: int, seq: int, ack: int, flags: int, payload: bytes) -> list[T]:
        """One packet to its half, flags and all."""
        connection = half.connection
        connection.last = ts
        if flags & RST:
            return self._close(connection)
        if connection.consumer is None:
            return []
        done: list[T] = []
        for side, chunks in taken(half, ts, seq, ack, flags, payload):
            done += self._deliver(side, chunks)
        if half.stream.ended and half.peer.stream.ended:
            done += self._close(connection)
        return done

    def _deliver(self, half: Half[T], chunks: list[Chunk]) -> list[T]:
        connection = half.connection
        consumer = connection.consumer
        if consumer is None:
            return []
        done: list[T] = []
        for chunk in chunks:
            if type(chunk) is Data:
                done += consumer.data(half.side, chunk)
            elif type(chunk) is Gap:
                self.tally.gaps += 1
                connection.gapped = True
                self.tally.gap_bytes += chunk.size or 0
                done += consumer.gap(half.side, chunk.size)
            else:
                done += consumer.end(half.side)
        held = consumer.held + half.stream.held + half.peer.stream.held
        if held != connection.held:
            self._held += held - connection.held
            connection.held = held
            if self.held > self._limits.held_bytes:
                done += self.relieve(self._limits.held_bytes * 3 // 4)
        return done

    def _close(self, connection: Connection[T]) -> list[T]:
        """Deliver what is held, let the consumer conclude. The connection stays known until it is removed."""
        done: list[T] = []
        for half in connection.halves:
            done += self._deliver(half, half.stream.flush())
        consumer, connection.consumer = connection.consumer, None
        if consumer is not None:
            done += consumer.finish()
        self._held -= connection.held
        connection.held = 0
        return done

    def _remove(self, connection: Connection[T]) -> None:
        self._connections.pop(connection, None)
        self.places.remove(connection)
        for half in connection.halves:
            if self._halves.get(half.key) is half:
                del self._halves[half.key]

    def _sweep(self, ts: int) -> list[T]:
        """Once a second of packet time: forget what ended, conclude what is idle."""
        if self._swept is None or ts < self._swept:
            self._swept = ts
        if ts - self._swept < SECOND:
            return []
        self._swept = ts
        done: list[T] = []
        for waiting in self._waiting:
            if ts - waiting.last > self._limits.idle:
                done += self._alone(waiting)
        for connection in [each for each in self._connections if each.expired(ts, self._limits)]:
            done += self._close(connection)
            self._remove(connection)
        return done
