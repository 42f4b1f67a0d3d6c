"""Packets of one source in; for each connection, chunks of its two directions out to a consumer.

A source is one place of capture: a pod's lo, or the node's interfaces. Each has its own table, so equal addresses and
ports in two pods are two connections. Within a source the same packet may pass several interfaces; its copies are then
retransmissions to the reassembler, which delivers bytes once.

On the node's interfaces a connection exists from its first packet. On a pod's lo a half may belong to a redirected
connection: it waits (`tapper.streams.waiting`) until a half with mirrored addresses or its other half by sequence
numbers appears. A connection that ended stays in the table a little longer: a late copy is none that is new.

A connection that is quiet stays in the table as long as there is room. Where there is none, the one that was quiet for
the longest time goes. Time is the packets' time, in nanoseconds; nothing in here reads a clock, and nothing depends on
how far the time of two packets is apart, since the clock may be set between them.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Final, Generic, TypeVar

from tapper.streams.acceptance import (
    SynVerdict,
    acknowledges_the_unsent,
    in_window,
    is_of_stranger,
    resets,
    syn_verdict,
)
from tapper.streams.bounds import SECOND, Limits, Tally
from tapper.streams.connection import Connection, Consumer, Half, HeldSegment, Scope, Suspicion, taken
from tapper.streams.copies import is_copy, original
from tapper.streams.legs import endpoints, is_mesh_internal, is_redirected, is_to_envoy, may_be_reply
from tapper.streams.order import Order, is_early
from tapper.streams.packet import ACK, FIN, RST, SYN, Packet, Segment, mirror, opener, parse, window_scale
from tapper.streams.places import Places
from tapper.streams.reassembly import SEGMENT_COST, Chunk, Data, Gap
from tapper.streams.sequence import HALF, MASK
from tapper.streams.waiting import Waiting, WaitingRoom, as_arrived

T = TypeVar("T")

_FLAGS: Final = SYN | FIN | RST | ACK
_SWEEPS_LATE: Final = 2
"""Missing bytes are waited for until so many sweeps have passed, one in a second of the packets' time."""
_SWEEPS_ENDED: Final = 3
"""So long is a connection remembered that ended."""


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
        self._due: dict[Connection[T], int] = {}  # those that a sweep may change, and how many have passed
        self._swept = 0
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

    @property
    def pending(self) -> bool:
        """Whether the passing of time would change anything: `pass_time` is to be called once a second."""
        return bool(self._due)

    def packets(self, memory: bytes, found: list[Packet], made: list[T]) -> None:
        """Some IP packets. What each of them makes goes into `made`, before the next is read."""
        self.tally.packets += len(found)
        if self._due and found:
            made += self.pass_time(found[0][0])
        halves = self._halves
        for packet in found:
            ts, _, begin, end = packet
            key, seq, ack, flags, window, start, stop = parse(memory, begin, end)
            half = halves.get(key)
            # The two cases that make up nearly all packets: an acknowledgement that changes nothing, and data in order.
            if half is None or flags & _FLAGS != ACK or half.peer.stream.waiting:
                made += self._unusual(half, memory, packet, (key, seq, ack, flags, window, start, stop))
                continue
            half.acked = ack
            half.window = window
            connection = half.connection
            connection.last = self.newest = ts
            consumer = connection.consumer
            if start == stop or (consumer is None and not connection.ended):
                continue
            payload = memory[start:stop]
            ahead = (ack - half.peer.stream.position) & MASK
            if consumer is None or 0 < ahead < HALF or not half.stream.follows(seq, stop - start):
                made += self._apply(half, HeldSegment(ts, packet[1], seq, ack, flags, window, None, payload))
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
            if connection.suspicion is not None:
                done += self._judge(connection, at_the_end=True)
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
                connection.held = 0
                self._remove(connection)

    def relieve(self, bound: int) -> list[T]:
        """Give up connections that hold memory until at most `bound` bytes are held, the longest quiet ones first."""
        done: list[T] = []
        for waiting in self._waiting:
            if self.held <= bound:
                return done
            if waiting.held:
                done += self._alone(waiting)
        for connection in sorted(self._connections, key=attrgetter("last")):
            if self.held <= bound:
                break
            if connection.held and not connection.ended:
                done += self._give_up(connection)
        return done

    def pass_time(self, ts: int) -> list[T]:
        """It is so late, in nanoseconds since 1970. Once a second: no longer wait for bytes that did not come, and
        forget what ended."""
        if abs(ts - self._swept) < SECOND:
            return []
        self._swept = ts
        done: list[T] = []
        for connection, sweeps in list(self._due.items()):
            if connection not in self._due:
                continue
            self._due[connection] = sweeps + 1
            if connection.order is not None and sweeps + 1 >= _SWEEPS_LATE:
                done += self._give_up_missing(connection)
            if connection.ended and sweeps + 1 >= _SWEEPS_ENDED:
                self._remove(connection)
            elif connection.order is None and not connection.ended:
                self._due.pop(connection, None)
        return done

    def quiet(self, since: int, most: int) -> list[bytes]:
        """Of connections of which no packet was seen since then (nanoseconds since 1970): the key of one half, at most
        so many, the longest quiet ones first."""
        found = [each for each in self._connections if each.last < since and each.consumer is not None]
        found.sort(key=attrgetter("last"))
        return [connection.halves[1].key for connection in found[:most]]

    def gone(self, keys: list[bytes], since: int) -> list[T]:
        """The connections with these keys, of `quiet`, exist no longer: unless one was heard of meanwhile, it ends."""
        done: list[T] = []
        for key in keys:
            half = self._halves.get(key)
            if half is not None and half.connection.last < since and not half.connection.ended:
                done += self._give_up(half.connection)
                self._remove(half.connection)
        return done

    # Packets that are not the usual ones.

    def _unusual(self, half: Half[T] | None, memory: bytes, packet: Packet, found: Segment) -> list[T]:
        key, seq, ack, flags, window, start, stop = found
        if not key:
            self.tally.malformed += 1
            return []
        ts, interface, begin, _ = packet
        scale = window_scale(memory, begin, start) if flags & SYN else None
        segment = HeldSegment(ts, interface, seq, ack, flags, window, scale, memory[start:stop])
        return self._strange(key, segment) if half is None else self._apply(half, segment)

    def _strange(self, key: bytes, segment: HeldSegment) -> list[T]:
        """A segment that belongs to no known connection."""
        flags, payload = segment.flags, segment.payload
        # 1. What is not to be reported.
        on_lo = self._scope.on_lo
        if on_lo and is_mesh_internal(key, flags, self._scope.pod_ip):
            self.tally.mesh += 1
            return []
        source, destination = endpoints(key)
        if not self._scope.covers(source, destination):
            return []
        # 2. A half that waits.
        done: list[T] = []
        waiting = self._waiting.get(key)
        if waiting is not None:
            if not (flags & SYN and waiting.contradicts(segment.seq)):
                return self._wait(waiting, segment)
            done += self._alone(waiting)
        if flags & RST or not (payload or flags & SYN or on_lo):
            return done  # nothing can begin with this
        # 3. A half that mirrors one that waits.
        opposite = self._waiting.get(mirror(key)) if on_lo else None
        if opposite is not None:
            half, replayed = self._symmetric(opposite, both_ways=True)
            return [*done, *replayed, *self._apply(half, segment)]
        # 4. One that has to wait.
        redirected = on_lo and is_redirected(source, destination)
        if redirected or (on_lo and flags & (SYN | ACK) != SYN and may_be_reply(source, destination)):
            if len(self._waiting) >= self._limits.waiting:
                self.tally.given_up += 1
                done += self._alone(self._waiting.oldest)
            waiting = self._waiting.enter(key, source if redirected else destination, redirected=redirected)
            return [*done, *self._wait(waiting, segment)]
        # 5. A new connection, or a copy of a known one.
        known = None if on_lo else original(self.places, reversed(self._connections), key, segment)
        connection, evicted = self._open(key, mirror(key), opener(flags), segment.ts, known)
        connection.interface = segment.interface
        return [*done, *evicted, *self._apply(connection.halves[0], segment)]

    def _wait(self, waiting: Waiting, segment: HeldSegment) -> list[T]:
        """One more packet of a half that waits; perhaps the one that tells where it belongs."""
        pair = self._waiting.take(waiting, segment)
        if pair is not None:
            return self._paired(*pair)
        return self._alone(waiting) if waiting.held > self._limits.waiting_bytes else []

    def _paired(self, request: Waiting, reply: Waiting) -> list[T]:
        """The two halves of a redirected connection become one, and what was held is delivered as it arrived."""
        connection, done = self._open(request.key, reply.key, 0, max(request.last, reply.last))
        for side, segment in as_arrived(request, reply):
            done += self._apply(connection.halves[side], segment)
        return done

    def _symmetric(self, waiting: Waiting, *, both_ways: bool) -> tuple[Half[T], list[T]]:
        """A waiting half is taken for one of an ordinary connection. Returns the other half."""
        self._waiting.leave(waiting)
        connection, done = self._open(waiting.key, mirror(waiting.key), waiting.client, waiting.last)
        connection.both_ways = both_ways
        for _, segment in waiting.packets:
            done += self._apply(connection.halves[0], segment)
        return connection.halves[1], done

    def _alone(self, waiting: Waiting) -> list[T]:
        """No other half will be looked for any longer."""
        if not waiting.packets:
            self._waiting.leave(waiting)
            return []
        return self._symmetric(waiting, both_ways=False)[1]

    # Connections.

    def _open(
        self, key: bytes, other: bytes, client: int | None, ts: int, suspect_of: Connection[T] | None = None
    ) -> tuple[Connection[T], list[T]]:
        done: list[T] = []
        if len(self._connections) >= self._limits.connections:
            done = self._make_room()
        connection: Connection[T] = Connection(self._scope, key, other, client, ts, self._limits.hole_bytes)
        self._connections[connection] = None
        for half in connection.halves:
            self._halves[half.key] = half
        if suspect_of is not None and suspect_of in self._connections:  # it may have been the oldest
            connection.suspicion = Suspicion(suspect_of)
            connection.watch()
        elif self._scope.on_lo and is_to_envoy(key):
            self.tally.mesh += 1  # mostly ciphertext, on its way to Envoy; its plaintext comes on the delivery leg
            self.places.add(connection, other, 1)
            connection.consumer = None if self._peek is None else self._peek(connection)
        else:
            self._begin_reading(connection)
        return connection, done

    def _begin_reading(self, connection: Connection[T]) -> None:
        if not self._scope.on_lo:
            self.places.add(connection, connection.halves[0].key, connection.client)
        connection.consumer = self._open_consumer(connection)
        self.tally.connections += 1

    def _make_room(self) -> list[T]:
        """Forget some connections: those that ended, then those that carried nothing, then the longest quiet ones."""
        done: list[T] = []
        for connection in sorted(self._connections, key=_worth)[: max(1, self._limits.connections // 16)]:
            done += self._give_up(connection)
            self._remove(connection)
        return done

    def _apply(self, half: Half[T], segment: HeldSegment) -> list[T]:
        """One segment to its half, flags and all."""
        connection, flags = half.connection, segment.flags
        connection.last = self.newest = segment.ts
        # 1. What is not read: perhaps a copy, or over.
        if connection.suspicion is not None:
            return self._suspect(half, segment)
        if connection.consumer is None:
            return self._unread(half, segment)
        # 2. What the receiver would not take.
        if flags & SYN:
            verdict = syn_verdict(half, segment)
            if verdict is SynVerdict.ANOTHER:
                return self._replace(half, segment)
            if verdict is SynVerdict.ASKED:
                connection.reopening = (half.side, segment)
            if verdict is not SynVerdict.OWN:
                return []
        elif flags & RST:
            return self._close(connection) if resets(half, segment) else []
        elif not flags & ACK:
            return []  # RFC 9293 section 3.10.7.4: it is dropped
        half.says(segment)
        done: list[T] = []
        if connection.stranger is not None and is_of_stranger(connection, half, segment):
            done += self._admit_stranger(half, segment)
            if connection.ended:
                return done
        carries = not flags & SYN and (segment.payload or flags & FIN)
        if carries and not (
            in_window(half, segment.seq, len(segment.payload)) and not acknowledges_the_unsent(half, segment)
        ):
            return [*done, *self._stranger(half, segment)]
        # 3. Its bytes, and what they open.
        for changed, chunks in taken(half, segment):
            done += self._deliver(changed, chunks)
        if half.stream.ended and half.peer.stream.ended:
            done += self._close(connection)
        return done

    def _replace(self, half: Half[T], segment: HeldSegment) -> list[T]:
        """Another connection has the same addresses and ports."""
        before, asked = half.connection, half.connection.reopening
        done = self._close(before)
        self._remove(before)
        if asked is not None and asked[0] != half.side:
            done += self._strange(before.halves[asked[0]].key, asked[1])
        return [*done, *self._known_or_strange(half.key, segment)]

    def _known_or_strange(self, key: bytes, segment: HeldSegment) -> list[T]:
        known = self._halves.get(key)
        return self._strange(key, segment) if known is None else self._apply(known, segment)

    # Segments outside the window. Its receiver drops one (RFC 9293 section 3.10.7.4), unless the ports were used again
    # and the new SYN was not captured, or more of the stream was not captured than a window. Then the other end answers
    # it.

    def _stranger(self, half: Half[T], segment: HeldSegment) -> list[T]:
        connection, peer = half.connection, half.peer
        before = connection.stranger
        if not segment.payload:
            return []
        if before is not None and before[1].end == segment.seq and peer.stream.position < 0 and peer.acked < 0:
            # Only this direction is captured, so there is nobody to confirm it: two in a row do.
            connection.stranger = None
            connection.watch()
            done = self._deliver(half, half.stream.restart(before[1].seq))
            return [*done, *self._apply(half, before[1]), *self._apply(half, segment)]
        connection.stranger = (half.side, segment)
        connection.watch()
        return []

    def _admit_stranger(self, half: Half[T], segment: HeldSegment) -> list[T]:
        """The last segment outside the window was no lie; `segment`, of the other side, proves it."""
        connection = half.connection
        assert connection.stranger is not None, "this was asked before"
        side, stranger = connection.stranger
        sender = connection.halves[side]
        connection.stranger = None
        connection.watch()
        if in_window(half, segment.seq, len(segment.payload)):
            # The other end goes on where it was, so it is the same connection.
            return [*self._deliver(sender, sender.stream.restart(stranger.seq)), *self._apply(sender, stranger)]
        done = self._close(connection)
        self._remove(connection)
        return [*done, *self._strange(sender.key, stranger), *self._known_or_strange(half.key, segment)]

    # Connections that are not read.

    def _unread(self, half: Half[T], segment: HeldSegment) -> list[T]:
        """A segment of a connection that ended, that is a copy, or that no reader wants more of."""
        connection = half.connection
        if not connection.ended:
            if segment.flags & (FIN | RST):
                self._end(connection)
            return []
        if segment.flags & SYN:
            another = syn_verdict(half, segment) is SynVerdict.ANOTHER
        else:
            another = bool(segment.payload) and not half.stream.covers(segment.seq, len(segment.payload))
        return self._replace(half, segment) if another else []

    def _suspect(self, half: Half[T], segment: HeldSegment) -> list[T]:
        """A segment of what may be a copy of another connection."""
        suspicion = half.connection.suspicion
        assert suspicion is not None, "this was asked before"
        suspicion.segments.append((half.side, segment))
        cost = len(segment.payload) + SEGMENT_COST
        suspicion.held += cost
        half.connection.held += cost
        self._held += cost
        return self._judge(half.connection)

    def _judge(self, connection: Connection[T], *, at_the_end: bool = False) -> list[T]:
        """Read a suspect's segments, or pass them over, once it is known which is right."""
        suspicion = connection.suspicion
        assert suspicion is not None, "this was asked before"
        first = suspicion.segments[0][1] if suspicion.segments else None
        verdict = True if first is not None and not first.flags & SYN else is_copy(suspicion, at_the_end=at_the_end)
        if verdict is None:
            return []
        connection.suspicion = None
        connection.watch()
        self._held -= connection.held
        connection.held = 0
        if verdict:
            self.tally.copies += 1
            found = suspicion.original
            if found in self._connections:
                self.places.add(found, connection.halves[0].key, connection.client)
                found.copies = [*(found.copies or ()), connection]
            return []
        self._begin_reading(connection)
        done: list[T] = []
        for side, segment in suspicion.segments:
            done += self._apply(connection.halves[side], segment)
        return done

    # Chunks.

    def _deliver(self, half: Half[T], chunks: list[Chunk]) -> list[T]:
        """Tell the consumer of these, each once all that its sender had received is told."""
        connection = half.connection
        if connection.consumer is None:
            return []
        done: list[T] = []
        order = connection.order
        if order is None:
            for index, chunk in enumerate(chunks):
                peer = half.peer.stream
                if type(chunk) is Data and is_early(chunk.ack, peer.position & MASK, peer):
                    order = connection.order = Order(connection.halves[0].stream, connection.halves[1].stream)
                    order.put(half.side, chunks[index:])
                    self._due[connection] = 0
                    connection.watch()
                    break
                done += self._tell(half, chunk)
        else:
            order.put(half.side, chunks)
        if order is not None:
            done += self._tell_ordered(connection, order)
            if order.held > self._limits.hole_bytes:
                done += self._give_up_missing(connection)
        self._weigh(connection)
        if self.held > self._limits.held_bytes:
            done += self.relieve(self._limits.held_bytes * 3 // 4)
        return done

    def _tell_ordered(self, connection: Connection[T], order: Order) -> list[T]:
        done: list[T] = []
        while (found := order.take()) is not None:
            side, chunk = found
            done += self._tell(connection.halves[side], chunk)
        if not order:
            connection.order = None
            connection.watch()
        return done

    def _give_up_missing(self, connection: Connection[T]) -> list[T]:
        """Tell all that waits for bytes of the other side."""
        done: list[T] = []
        while connection.order is not None:
            forced = connection.order.give_up()
            if forced is not None:
                done += self._tell(connection.halves[forced[0]], forced[1])
            done += self._tell_ordered(connection, connection.order)
        self._weigh(connection)
        return done

    def _tell(self, half: Half[T], chunk: Chunk) -> list[T]:
        connection = half.connection
        consumer = connection.consumer
        if consumer is None:
            return []
        if type(chunk) is Data:
            return list(consumer.data(half.side, chunk))
        if type(chunk) is Gap:
            self.tally.gaps += 1
            connection.gapped = True
            self.tally.gap_bytes += chunk.size or 0
            return list(consumer.gap(half.side, chunk.size))
        return list(consumer.end(half.side))

    def _weigh(self, connection: Connection[T]) -> None:
        """Count what this connection holds."""
        held = sum(half.stream.held for half in connection.halves)
        if connection.consumer is not None:
            held += connection.consumer.held
        if connection.order is not None:
            held += connection.order.held
        self._held += held - connection.held
        connection.held = held

    # Ends.

    def _give_up(self, connection: Connection[T]) -> list[T]:
        """Close a connection of which no end was seen."""
        self.tally.given_up += connection.consumer is not None
        return self._close(connection)

    def _close(self, connection: Connection[T]) -> list[T]:
        """Deliver what is held, let the consumer conclude. The connection stays known until it is removed."""
        if connection.ended:
            return []
        self._end(connection)
        done: list[T] = []
        for half in connection.halves:
            done += self._deliver(half, half.stream.flush())
        done += self._give_up_missing(connection)
        consumer, connection.consumer = connection.consumer, None
        if consumer is not None:
            done += consumer.finish()
        connection.suspicion = connection.stranger = None
        self._held -= connection.held
        connection.held = 0
        return done

    def _end(self, connection: Connection[T]) -> None:
        if not connection.ended:
            connection.ended = True
            self._due[connection] = 0

    def _remove(self, connection: Connection[T]) -> None:
        if connection.suspicion is not None:
            self._held -= connection.held
            connection.held = 0
        self._connections.pop(connection, None)
        self._due.pop(connection, None)
        self.places.remove(connection)
        for half in connection.halves:
            if self._halves.get(half.key) is half:
                del self._halves[half.key]
        for copy in connection.copies or ():
            self._remove(copy)


def _worth(connection: Connection[T]) -> tuple[bool, bool, int]:
    """What is forgotten first is the least."""
    carried = any(half.stream.carried for half in connection.halves)
    return not connection.ended, carried, connection.last
