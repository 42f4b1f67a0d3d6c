"""The connections of a source: packets in, records out.

A source is one place of capture: a pod's lo, or the node's interfaces. Each source has a table of its own, so equal
addresses and ports in two pods are two connections. Within a source a packet may cross several interfaces. Its copies
are repetitions to the reassembler, which delivers bytes once.

A packet takes these steps:

1. `parse` finds the TCP segment. In a packet that is not plain TCP, `tapper.streams.decapsulation` looks for one, in
   tunnels and fragments. A packet without one is counted by its protocol.
2. The table gives the connection of the packet's addresses and ports. Its state says what happens to the segment:

   suspect   It may be a copy of another connection (`tapper.streams.copies`). The segment is kept.
   read      The segment is judged as its receiver does (`tapper.streams.acceptance`), and delivered if it is accepted.
   unread    A copy, or a connection of which the reader wants nothing more. Only its end matters.
   ended     The connection stays for some seconds, so that late copies of its packets do not look like a new one.

3. Without a connection in the table, the segment belongs to a pending half (`tapper.streams.pairing`), or begins such a
   half, or begins a connection. On the node's interfaces a connection begins with its first packet. On a pod's lo a
   half may belong to a redirected connection: it waits until a half with mirrored addresses appears, or its other half
   by sequence numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import TypeVar

from tapper.streams.acceptance import (
    SynVerdict,
    confirms_outside,
    in_window,
    is_refused,
    may_reset,
    refuses,
    resets,
    syn_verdict,
)
from tapper.streams.bounds import RELIEF
from tapper.streams.connection import UNSEEN, Connection, ConnectionEnd, EndKind, HalfConnection
from tapper.streams.copies import is_copy, original
from tapper.streams.legs import endpoints, is_mesh_internal, is_redirected, may_be_reply
from tapper.streams.packet import (
    ACK,
    FIN,
    RST,
    SYN,
    Packet,
    TcpHeader,
    TcpSegment,
    mirror,
    opener,
    parse,
    timestamp,
    window_scale,
)
from tapper.streams.pairing import PendingHalf, as_arrived
from tapper.streams.table import ConnectionTable

T = TypeVar("T")


class Connections(ConnectionTable[T]):
    """Reads the packets of one source. Every method that returns a list returns the records that readers have made, in
    order."""

    def packets(self, memory: bytes, packets: list[Packet], records: list[T]) -> None:
        """Read IP packets that lie in `memory`. The records of each packet are appended to `records` before the next
        packet is read."""
        self.tally.packets += len(packets)
        if self._due and packets:
            records += self.pass_time(packets[0][0])
        for packet in packets:
            records += self._take(memory, packet, parse(memory, packet[2], packet[3]))

    def finish(self) -> Iterator[list[T]]:
        """No packet will come: every connection is closed and forgotten, one after the other. A caller that stops
        before the end calls `abandon`."""
        self._decapsulation.finish()
        yield self.tell_time(self.newest)
        for half in self._pending:
            yield self._give_up_pairing(half)
        for connection in list(self._connections):
            if connection.suspicion is not None:
                yield self._judge(connection, at_the_end=True)
        for connection in list(self._connections):
            yield self._close(connection, connection.doubtful_reset or UNSEEN)
            self._remove(connection)

    def abandon(self) -> None:
        """Forget the connections that are left, and count those that have not ended as given up."""
        self.tally.given_up += sum(connection.consumer is not None for connection in self._connections)
        for connection in list(self._connections):
            connection.hold(0)
            self._remove(connection)

    def relieve(self, bound: int) -> list[T]:
        """Forget pending halves and connections until at most `bound` bytes are held, the longest quiet ones first.
        Fragments of packets are given up before."""
        records: list[T] = []
        if self.held > bound:
            self._decapsulation.relieve()
        for half in self._pending:
            if self.held <= bound:
                return records
            records += self._give_up_pairing(half)
        for connection in sorted(self._connections, key=attrgetter("last")):
            if self.held <= bound:
                break
            records += self._give_up(connection)
            self._remove(connection)
        return records

    # Segments.

    def _take(self, memory: bytes, packet: Packet, header: TcpHeader) -> list[T]:
        """One packet, given the TCP header in it."""
        key, seq, ack, flags, window, start, stop = header
        ts, interface, begin, end = packet
        if not key:  # not plain TCP
            found = self._decapsulation.find(ts, interface, memory, begin, end)
            if found is None:
                return []
            memory, begin, end = found
            header = parse(memory, begin, end)
            if header[0]:
                return self._take(memory, (ts, interface, begin, end), header)
            self.tally.malformed += 1
            return []
        scale = window_scale(memory, begin, start) if flags & SYN else None
        stamp = timestamp(memory, begin, start) if stop > start or flags & SYN else b""
        segment = TcpSegment(ts, interface, seq, ack, flags, window, scale, stamp, memory[start:stop])
        records = self._segment(key, segment)
        if self.held > self._limits.held_bytes:
            records += self.relieve(self._limits.held_bytes - self._limits.held_bytes // RELIEF)
        return records

    def _segment(self, key: bytes, segment: TcpSegment) -> list[T]:
        """One segment, by the state of its connection."""
        half = self._halves.get(key)
        if half is None:
            return self._new_flow(key, segment)
        connection = half.connection
        connection.last = self.newest = segment.ts
        if connection.suspicion is not None:
            connection.suspicion.add(half.side, segment)
            connection.hold(connection.suspicion.held)
            return self._judge(connection)
        if connection.consumer is None:
            return self._unread(half, segment)
        waited = bool(connection.order)
        records = self._read(half, segment)
        if connection.order and not waited:
            self._due[connection] = 0
        return records

    def _read(self, half: HalfConnection[T], segment: TcpSegment) -> list[T]:
        """A segment of a connection that is read."""
        connection, flags = half.connection, segment.flags
        # 1. Segments that open or reset a connection, and segments that every receiver drops.
        if flags & SYN:
            verdict = syn_verdict(half, segment)
            if verdict is SynVerdict.ANOTHER:
                return self._replace(half, segment)
            if verdict is SynVerdict.ASKED:
                connection.reopening = (half.side, segment)
            if verdict is not SynVerdict.OWN:
                return []
        elif flags & RST:
            if not resets(half, segment):
                if may_reset(half, segment):
                    connection.outside, self._due[connection] = (half.side, segment), 0
                return []
            kind = EndKind.REFUSED if refuses(half, segment) else EndKind.RESET
            return self._close(connection, ConnectionEnd(kind, half.side))
        elif not flags & ACK:
            return []  # RFC 9293 section 3.10.7.4
        # 2. The acknowledgement. It may confirm the other side's segment outside the window.
        half.acknowledge(segment)
        records: list[T] = []
        if connection.outside is not None and confirms_outside(half, segment):
            records += self._admit_outside(half, segment)
            if connection.ended:
                return records
        # 3. A segment outside the window is kept until it is confirmed.
        if not flags & SYN and (segment.payload or flags & FIN):
            inside = in_window(half, segment.seq, len(segment.payload))
            if not inside or is_refused(half, segment):
                return [*records, *self._keep_outside(half, segment)]
            if connection.doubtful_reset is not None:
                connection.outside = None  # the connection goes on
        # 4. The payload, and the end.
        records += connection.take(half, segment)
        if half.stream.ended and half.peer.stream.ended:
            records += self._close(connection, ConnectionEnd(EndKind.FIN))
        return records

    def _unread(self, half: HalfConnection[T], segment: TcpSegment) -> list[T]:
        """A segment of a connection that has ended, or is a copy, or of which no reader wants more."""
        connection, flags = half.connection, segment.flags
        if not flags & (SYN | FIN | RST):
            half.acknowledge(segment)  # by these numbers a copy of this connection is still recognised
        if not connection.ended:
            if flags & (FIN | RST):
                self._end(connection)
            return []
        if flags & SYN:
            another = syn_verdict(half, segment) is SynVerdict.ANOTHER
        else:
            another = bool(segment.payload) and not half.stream.covers(segment.seq, len(segment.payload))
        return self._replace(half, segment) if another else []

    def _replace(self, half: HalfConnection[T], segment: TcpSegment) -> list[T]:
        """Another connection with the same addresses and ports begins."""
        before, reopening = half.connection, half.connection.reopening
        records = self._close(before, ConnectionEnd(EndKind.REPLACED))
        self._remove(before)
        if reopening is not None and reopening[0] != half.side:
            records += self._new_flow(before.halves[reopening[0]].key, reopening[1])
        return [*records, *self._segment(half.key, segment)]

    # Segments outside the receiver's window. The receiver drops one (RFC 9293 section 3.10.7.4). But where the ports
    # were used again and the new SYN was not captured, or more than a window was not captured, the other end answers
    # it. So the last such segment is kept until the other end's next segment.

    def _keep_outside(self, half: HalfConnection[T], segment: TcpSegment) -> list[T]:
        connection, peer = half.connection, half.peer
        before = connection.outside
        if not segment.payload:
            return []
        if before is not None and before[1].end == segment.seq and peer.stream.position < 0 and peer.acked < 0:
            # Only this direction is captured, so nobody can confirm the segment. Two in a row confirm each other.
            connection.outside = None
            records = connection.deliver(half, half.stream.restart(before[1].seq))
            return [*records, *self._segment(half.key, before[1]), *self._segment(half.key, segment)]
        connection.outside = (half.side, segment)
        return []

    def _admit_outside(self, half: HalfConnection[T], segment: TcpSegment) -> list[T]:
        """The peer did send its segment outside the window: `segment` proves it."""
        connection = half.connection
        assert connection.outside is not None, "confirms_outside needs one"
        side, outside = connection.outside
        sender = connection.halves[side]
        connection.outside = None
        if in_window(half, segment.seq, len(segment.payload)):
            # `half` goes on where it was, so this is the same connection.
            records = connection.deliver(sender, sender.stream.restart(outside.seq))
            return [*records, *self._segment(sender.key, outside)]
        records = self._close(connection, ConnectionEnd(EndKind.REPLACED))
        self._remove(connection)
        return [*records, *self._new_flow(sender.key, outside), *self._segment(half.key, segment)]

    # Flows without a connection in the table.

    def _new_flow(self, key: bytes, segment: TcpSegment) -> list[T]:
        """A segment that belongs to no known connection."""
        flags, on_lo = segment.flags, self._scope.on_lo
        # 1. Out of scope, or traffic of the mesh itself.
        if on_lo and is_mesh_internal(key, flags, self._scope.pod_ip):
            self.tally.mesh += 1
            return []
        source, destination = endpoints(key)
        if not self._scope.covers(source, destination):
            return []
        # 2. The next segment of a pending half, unless a SYN begins another connection.
        records: list[T] = []
        pending = self._pending.get(key)
        if pending is not None:
            if not flags & SYN or pending.isn == segment.seq:
                return self._wait(pending, segment)
            records += self._give_up_pairing(pending)
        # 3. Segments that begin nothing.
        if flags & RST or not (segment.payload or flags & SYN or on_lo):
            return records
        # 4. The mirrored half of a pending one: an ordinary connection.
        opposite = self._pending.get(mirror(key)) if on_lo else None
        if opposite is not None:
            return [*records, *self._join_mirrored(opposite, both_ways=True), *self._segment(key, segment)]
        # 5. A half that may be redirected: it has to wait.
        redirected = on_lo and is_redirected(source, destination)
        if redirected or (on_lo and flags & (SYN | ACK) != SYN and may_be_reply(source, destination)):
            if len(self._pending) >= self._limits.pending_halves:
                self.tally.given_up += 1
                records += self._give_up_pairing(self._pending.oldest)
            pending = self._pending.add(key, source if redirected else destination, redirected=redirected)
            return [*records, *self._wait(pending, segment)]
        # 6. A new connection, or a copy of a known one.
        known = (
            None
            if on_lo or self._scope.libraries
            else original(self.by_endpoint, reversed(self._connections), key, segment)
        )
        connection, evicted = self._open(key, mirror(key), opener(flags), segment.ts, known)
        connection.interface = segment.interface
        return [*records, *evicted, *self._segment(key, segment)]

    def _wait(self, half: PendingHalf, segment: TcpSegment) -> list[T]:
        """One more segment of a pending half. It may show which half is its other half."""
        pair = self._pending.take(half, segment)
        if pair is not None:
            request, reply = pair
            connection, records = self._open(request.key, reply.key, 0, max(request.last, reply.last))
            for side, kept in as_arrived(request, reply):
                records += self._segment(connection.halves[side].key, kept)
            return records
        return self._give_up_pairing(half) if half.held > self._limits.pending_bytes else []

    def _join_mirrored(self, half: PendingHalf, *, both_ways: bool) -> list[T]:
        """A pending half becomes half 0 of an ordinary connection, whose other half has mirrored addresses."""
        self._pending.remove(half)
        connection, records = self._open(half.key, mirror(half.key), half.client, half.last)
        connection.both_ways = both_ways
        for _, segment in half.segments:
            records += self._segment(half.key, segment)
        return records

    def _give_up_pairing(self, half: PendingHalf) -> list[T]:
        """Stop looking for the other half. A half without a payload, SYN or FIN is dropped."""
        if half.segments:
            return self._join_mirrored(half, both_ways=False)
        self._pending.remove(half)
        return []

    def _judge(self, connection: Connection[T], *, at_the_end: bool = False) -> list[T]:
        """Read the segments of a suspect, or drop them, once it is decided whether it is a copy."""
        suspicion = connection.suspicion
        assert suspicion is not None, "only suspects are judged"
        verdict = is_copy(suspicion, at_the_end=at_the_end)
        if verdict is None:
            return []
        connection.suspicion = None
        connection.hold(0)
        records: list[T] = []
        if not verdict:
            self._begin_reading(connection)
            for side, segment in suspicion.segments:
                records += self._segment(connection.halves[side].key, segment)
            return records
        self.tally.copies += 1
        original_one = suspicion.original
        if original_one in self._connections:
            self.by_endpoint.add(original_one, connection.halves[0].key, connection.client)
            original_one.copies = [*(original_one.copies or ()), connection]
        return records
