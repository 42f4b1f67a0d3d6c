"""A connection of a source: its two halves, its reader, and what the reader is told.

A segment that the receiver accepts (`tapper.streams.acceptance`) takes three steps here:

1. `HalfStream` puts the bytes of each half in order.
2. `Order` puts the chunks of both halves into an order that can have happened.
3. The consumer reads them; what it returns goes out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Final, Generic, TypeVar

from tapper.streams.bounds import SEGMENT_COST, Budget
from tapper.streams.legs import Direction, Endpoint, classify, endpoints, is_loopback, own_end
from tapper.streams.order import Order, is_early
from tapper.streams.packet import ACK, FIN, RST, SYN, TcpSegment, mirror
from tapper.streams.reassembly import Chunk, Data, Gap, HalfStream
from tapper.streams.sequence import MASK

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_MOST_EARLY_BYTES: Final = 4096
"""Data in a SYN that is kept until the SYN-ACK. One segment of an ordinary link is smaller."""
UNKNOWN_SCALE: Final = 14
"""The window's shift count where the SYN was not captured: the largest there is (RFC 7323 section 2.3)."""


class Consumer(Generic[T_co]):
    """Reads the chunks of one connection. `side` (0 or 1) is the half that sent them. Each method returns the records
    that became complete. A class and not a protocol: compiled code calls a class's methods without a lookup."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = 0
        """Bytes kept in unfinished messages, roughly."""

    def data(self, side: int, chunk: Data) -> Sequence[T_co]:
        raise NotImplementedError

    def gap(self, side: int, size: int | None) -> Sequence[T_co]:
        """`size` bytes were not captured; None where their number is not known."""
        raise NotImplementedError

    def pass_time(self, now: int) -> Sequence[T_co]:  # noqa: ARG002
        """It is `now`, in nanoseconds since 1970, although no packet has come."""
        return []

    def end(self, side: int) -> Sequence[T_co]:
        """That side sends nothing more."""
        raise NotImplementedError

    def finish(self) -> Sequence[T_co]:
        """The connection is over. No other method is called after this one."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Scope:
    """What a source may report."""

    pod_ip: str | None
    """The canonical address of the pod whose lo this is. None for the node's interfaces, and where it is not known."""
    targets: frozenset[bytes] | None
    """Packed addresses: only connections to or from one of them are reported. None for all connections."""
    some_lo: bool = False
    """Whether this is the lo of a pod that is not known."""
    delivered_from_itself: bool = False
    """Whether the pod's proxy delivers from the pod's own address, as Linkerd's does. A connection of an application to
    its own address looks the same."""

    libraries: tuple[str, ...] = ()
    """Not empty for plaintext of the pod's own processes, which was taken at functions of their TLS libraries: the
    names of the libraries. The index of a packet's interface is 2 * number of the library, plus 1 for what the process
    has received. The two ends are those of the process's socket, whatever is between them on the way."""

    @property
    def on_lo(self) -> bool:
        return self.some_lo or (self.pod_ip is not None and not self.libraries)

    def covers(self, source: Endpoint, destination: Endpoint) -> bool:
        if self.targets is None:
            return True
        if self.some_lo:
            return own_end(source, destination).address in self.targets
        return source.address in self.targets or destination.address in self.targets


class WireSecurity(StrEnum):
    """What a connection between two pods carries."""

    TLS = "tls"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Leg:
    """The place where an exchange was seen: one of the connections that the exchange crossed."""

    pod_ip: str | None
    """The pod's address in canonical text; None where it is not known."""
    direction: Direction
    src: Endpoint
    """The client, as its packets named it."""
    dst: Endpoint
    """The server, as its packets named it."""
    wire: WireSecurity | None = None
    """What the connection between the two pods carried; None where that is not known."""
    proxied_for: Endpoint | None = None
    """The client, as a header of the PROXY protocol named it; None without such a header, or if it names none."""
    plaintext: str | None = None
    """The TLS library at whose functions the plaintext was taken; None for what packets carried."""

    @property
    def mtls(self) -> bool | None:
        """Whether the request crossed the network inside the mesh's TLS; None where that is not known."""
        return None if self.wire is None else self.wire is WireSecurity.TLS


class EndKind(StrEnum):
    """What ended a connection."""

    FIN = "fin"
    """Both ends sent FIN."""
    RESET = "reset"
    """One end sent RST."""
    REFUSED = "refused"
    """A RST answered the first SYN."""
    GONE = "gone"
    """Its sockets no longer exist."""
    REPLACED = "replaced"
    """Another connection has the same addresses and ports now."""
    UNSEEN = "unseen"
    """Nothing: the capture ended, or the connection was given up."""


@dataclass(frozen=True, slots=True)
class ConnectionEnd:
    """What ended a connection, and the side (0 or 1) that sent the RST."""

    kind: EndKind
    side: int | None = None


UNSEEN: Final = ConnectionEnd(EndKind.UNSEEN)


class HalfConnection(Generic[T]):
    """One direction of a connection: what one end sends."""

    __slots__ = ("acked", "connection", "key", "peer", "scale", "side", "simple", "stamp", "stream", "window")

    peer: HalfConnection[T]

    def __init__(self, connection: Connection[T], side: int, key: bytes, hole_bytes: int) -> None:
        self.connection = connection
        self.side = side
        self.key = key
        self.stream = HalfStream(hole_bytes)
        self.acked = -1
        """The last acknowledgement number that this end has sent; -1 before the first."""
        self.window = 0
        """The last window field that this end has sent."""
        self.scale = UNKNOWN_SCALE
        """The shift count of that window (RFC 7323 section 2.2)."""
        self.stamp = b""
        """The `TcpSegment.stamp` of its last segment with bytes in order, or of its SYN."""
        self.simple = False
        """Whether `tapper.fast.connections` may read its segments the short way."""

    def acknowledge(self, segment: TcpSegment) -> None:
        """Remember what this segment says its sender has received, and how much more it would accept."""
        if segment.flags & SYN:
            self.scale = segment.scale or 0
            self.stamp = self.stamp or segment.stamp  # a repeated SYN changes nothing
        if segment.flags & ACK:
            self.acked = segment.ack
            self.window = segment.window


class Connection(Generic[T]):
    """Two halves and their reader. Half 0 of a redirected connection sends the requests, half 1 the replies."""

    __slots__ = (
        "_redirected",
        "both_ways",
        "budget",
        "client",
        "consumer",
        "copies",
        "early",
        "end",
        "ended",
        "first",
        "gapped",
        "halves",
        "held",
        "interface",
        "last",
        "on_wire_change",
        "order",
        "outside",
        "proxied_for",
        "reopening",
        "scope",
        "suspicion",
        "wire",
    )

    def __init__(self, scope: Scope, key: bytes, other: bytes, client: int | None, ts: int, budget: Budget) -> None:
        self.scope = scope
        self.budget = budget
        hole_bytes = budget.limits.hole_bytes
        first, second = HalfConnection(self, 0, key, hole_bytes), HalfConnection(self, 1, other, hole_bytes)
        first.peer, second.peer = second, first
        self.halves = (first, second)
        self.order: Order | None = None
        """The chunks that wait for bytes of the other side; None while none wait."""
        self.client = client
        """The side that opened the connection; None where its beginning was not captured."""
        self.both_ways = True
        """Whether packets of both directions had mirrored addresses, or belong to a redirected connection."""
        self._redirected = other != mirror(key)
        self.consumer: Consumer[T] | None = None
        """The reader. None for a copy, after the end, and where the reader wants nothing more."""
        self.ended = False
        """Whether both ends sent FIN, or one sent RST, or the connection was given up."""
        self.end = UNSEEN
        """What ended it."""
        self.early: tuple[int, int, bytes] | None = None
        """(ts, seq, bytes) of a first SYN with data (RFC 7413). The SYN-ACK shows whether the data was accepted."""
        self.reopening: tuple[int, TcpSegment] | None = None
        """A side and its SYN that may open a new connection with the same ports; not answered yet."""
        self.outside: tuple[int, TcpSegment] | None = None
        """A side and its last segment outside the receiver's window, not acknowledged yet; or its RST that may have
        ended the connection, after which nothing has come yet."""
        self.suspicion: Suspicion[T] | None = None
        """Not None while the connection may be a copy of another one."""
        self.copies: list[Connection[T]] | None = None
        """The connections that are copies of this one."""
        self.first = self.last = ts
        """Times of the first and the last packet, in nanoseconds since 1970."""
        self.interface = 0
        """The index of the interface of the first packet; 0 where that is not known."""
        self.held = 0
        """Bytes that the connection holds. They are part of the budget's."""
        self.gapped = False
        """Whether bytes of it are missing."""
        self.wire: WireSecurity | None = None
        """What it carries, as its reader says; None while that is not known."""
        self.proxied_for: Endpoint | None = None
        """The client that a header of the PROXY protocol names, as the reader says."""
        self.on_wire_change: Callable[[Connection[T], WireSecurity | None], None] | None = None
        """Called with the connection and its former `wire` when `wire` has changed."""

    @property
    def closed(self) -> bool:
        return self.consumer is None

    @property
    def doubtful_reset(self) -> ConnectionEnd | None:
        """The end by the RST in `outside`, if there is one."""
        if self.outside is None or not self.outside[1].flags & RST:
            return None
        return ConnectionEnd(EndKind.RESET, self.outside[0])

    def set_wire(self, wire: WireSecurity) -> None:
        """The reader has found out what the connection carries."""
        before, self.wire = self.wire, wire
        if before is not wire and self.on_wire_change is not None:
            self.on_wire_change(self, before)

    def from_start(self, side: int) -> bool:
        """Whether that side's stream is known from its first byte."""
        return self.halves[side].stream.from_start

    def leg(self, client: int) -> Leg:
        """The leg, given the side that turned out to be the client.

        A redirected connection is named after its replies: they come from the original destination and go to the
        application's own socket, while the port of the requests may be a translated one.
        """
        scope, pod_ip = self.scope, self.scope.pod_ip
        if scope.libraries:
            return self._own_leg(client)
        # 1. The two ends, and the direction.
        if self._redirected:
            server_end, client_end = endpoints(self.halves[1].key)
            direction = Direction.OUTBOUND
        else:
            client_end, server_end = endpoints(self.halves[client].key)
            pod = None if pod_ip is None else ip_address(pod_ip).packed
            direction = classify(client_end, server_end, on_lo=scope.on_lo, both_ways=self.both_ways, pod=pod)
            if direction is Direction.LOCAL and scope.delivered_from_itself and client_end.address == pod:
                direction = Direction.INBOUND
        # 2. The pod, where the source itself does not say it.
        if scope.some_lo:
            own = client_end if direction is Direction.OUTBOUND else server_end
            pod_ip = None if is_loopback(own.address) else own.host
        elif pod_ip is None and scope.targets is not None:
            own = server_end if server_end.address in scope.targets else client_end
            pod_ip = own.host
        wire = None if scope.on_lo else self.wire
        return Leg(pod_ip, direction, client_end, server_end, wire, self.proxied_for)

    def _own_leg(self, client: int) -> Leg:
        """The leg of a connection of one of the pod's processes."""
        library, received = divmod(self.interface, 2)
        client_end, server_end = endpoints(self.halves[client].key)
        direction = Direction.OUTBOUND if client == received else Direction.INBOUND
        if client_end.address == server_end.address:
            direction = Direction.LOCAL
        plaintext = self.scope.libraries[library]
        return Leg(self.scope.pod_ip, direction, client_end, server_end, None, self.proxied_for, plaintext)

    # What the consumer is told.

    def take(self, half: HalfConnection[T], segment: TcpSegment) -> list[T]:
        """Deliver what a segment of this connection makes deliverable."""
        ts, _, seq, ack, flags, _, _, stamp, payload = segment
        peer = half.peer
        records: list[T] = []
        # 1. The acknowledgement may settle holes of the other half.
        if flags & ACK:
            settled = peer.stream.acknowledged(ack)
            if settled:
                records += self.deliver(peer, settled)
        # 2. A SYN begins its half. Data of a first SYN waits for the SYN-ACK, which acknowledges it.
        if flags & SYN:
            half.stream.syn(seq)
            seq += 1
            if flags & ACK and self.early is not None:
                early_ts, early_seq, early = self.early
                self.early = None
                records += self.deliver(peer, peer.stream.push(early_seq, early, early_ts, seq & MASK))
            elif flags & ACK and peer.stream.position < 0:
                peer.stream.syn((ack - 1) & MASK)  # the peer's SYN was not captured, and had no data
            elif payload and not flags & ACK:
                if len(payload) <= _MOST_EARLY_BYTES:
                    self.early = (ts, seq & MASK, payload)
                return records
        # 3. The payload, then the end of the half.
        if payload:
            if half.stream.position < 0 or seq == half.stream.position & MASK:
                half.stamp = stamp
            records += self.deliver(half, half.stream.push(seq & MASK, payload, ts, ack))
        if flags & FIN:
            records += self.deliver(half, half.stream.fin((seq + len(payload)) & MASK))
        return records

    def deliver(self, half: HalfConnection[T], chunks: list[Chunk]) -> list[T]:
        """Tell the consumer of these chunks, each when everything that its sender had received is told."""
        if self.consumer is None:
            return []
        records: list[T] = []
        for chunk in chunks:
            if self.order is None and is_early(chunk, half.peer.stream):
                self.order = Order(self.halves[0].stream, self.halves[1].stream)
            if self.order is None:
                records += self._tell(half.side, chunk)
            else:
                self.order.put(half.side, [chunk])
        records += self._tell_ordered()
        if self.order is not None and self.order.held > self.budget.limits.hole_bytes:
            records += self.give_up_missing()
        self.weigh()
        return records

    def give_up_missing(self) -> list[T]:
        """Tell the consumer of all chunks that wait for bytes of the other side."""
        records: list[T] = []
        while self.order is not None:
            contradiction = self.order.give_up()
            if contradiction is not None:
                records += self._tell(*contradiction)
            self.order = self.order or None
            records += self._tell_ordered()
        self.weigh()
        return records

    def conclude(self) -> list[T]:
        """The connection is over: deliver everything that is held, and let the consumer conclude."""
        self.ended = True
        records: list[T] = []
        for half in self.halves:
            records += self.deliver(half, half.stream.conclude(half.peer.acked))
        records += self.give_up_missing()
        consumer, self.consumer = self.consumer, None
        if consumer is not None:
            records += consumer.finish()
        self.suspicion = self.outside = None
        self.hold(0)
        return records

    def hold(self, held: int) -> None:
        """The connection holds so many bytes now."""
        self.budget.held += held - self.held
        self.held = held

    def weigh(self) -> None:
        """Count the bytes that the connection holds."""
        held = 0 if self.order is None else self.order.held
        for half in self.halves:
            held += half.stream.held
        if self.consumer is not None:
            held += self.consumer.held
        self.hold(held)

    def _tell_ordered(self) -> list[T]:
        records: list[T] = []
        while self.order is not None and (ready := self.order.take()) is not None:
            records += self._tell(*ready)
            if not self.order:
                self.order = None
        return records

    def _tell(self, side: int, chunk: Chunk) -> Sequence[T]:
        consumer = self.consumer
        if consumer is None:
            return ()
        if isinstance(chunk, Data):
            return consumer.data(side, chunk)
        if isinstance(chunk, Gap):
            self.gapped = True
            self.budget.tally.gaps += 1
            self.budget.tally.gap_bytes += chunk.size or 0
            return consumer.gap(side, chunk.size)
        return consumer.end(side)


class Suspicion(Generic[T]):
    """The suspicion that a connection is a copy of another one. It keeps the segments until that is decided."""

    __slots__ = ("held", "original", "segments")

    def __init__(self, original: Connection[T]) -> None:
        self.original = original
        self.segments: list[tuple[int, TcpSegment]] = []
        """The segments so far, each with its side."""
        self.held = 0
        """Bytes of these segments, with SEGMENT_COST for each."""

    def add(self, side: int, segment: TcpSegment) -> None:
        self.segments.append((side, segment))
        self.held += len(segment.payload) + SEGMENT_COST
