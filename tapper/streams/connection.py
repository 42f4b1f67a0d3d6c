"""The records of a source's table: a connection, its two halves, and who reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Final, Generic, NamedTuple, TypeVar

from tapper.streams.legs import Direction, Endpoint, classify, endpoints, is_loopback, own_end
from tapper.streams.order import Order
from tapper.streams.packet import ACK, FIN, SYN, mirror
from tapper.streams.reassembly import Chunk, Data, HalfStream
from tapper.streams.sequence import MASK

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


_MOST_EARLY_BYTES = 4096
"""Data in a SYN is one segment's; more than an ordinary link's is not waited for."""
UNKNOWN_SCALE: Final = 14
"""The largest shift count there is (RFC 7323 section 2.3), for a window of which the SYN was not seen."""


class Consumer(Generic[T_co]):
    """Reads the chunks of one connection. `side` is 0 or 1: which half sent them. A class and no protocol, since it is
    called for every packet, and where it is compiled a class is called without looking for its methods."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = 0
        """Bytes kept in unfinished messages, roughly."""

    def data(self, side: int, chunk: Data) -> Sequence[T_co]:
        raise NotImplementedError

    def gap(self, side: int, size: int | None) -> Sequence[T_co]:
        raise NotImplementedError

    def end(self, side: int) -> Sequence[T_co]:
        raise NotImplementedError

    def finish(self) -> Sequence[T_co]:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Scope:
    """What a source may report."""

    pod_ip: str | None
    """The canonical address of the pod whose lo this is; None for the node's interfaces, and where it is not known."""
    targets: frozenset[bytes] | None
    """Only connections to or from one of these addresses, packed; None for all."""
    some_lo: bool = False
    """Whether this is a lo, although nobody knows whose."""
    delivered_from_itself: bool = False
    """Whether the pod's proxy delivers from the pod's own address, as Linkerd's does. An application that dials its own
    address looks the same."""

    @property
    def on_lo(self) -> bool:
        return self.some_lo or self.pod_ip is not None

    def covers(self, source: Endpoint, destination: Endpoint) -> bool:
        if self.targets is None:
            return True
        if self.some_lo:
            return own_end(source, destination).address in self.targets
        return source.address in self.targets or destination.address in self.targets


class Wire(StrEnum):
    """What a connection on a wire carries."""

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
    wire: Wire | None = None
    """What the connection between the two pods carried; None where that is not known."""

    @property
    def mtls(self) -> bool | None:
        """Whether the request crossed the network inside the mesh's TLS; None where that is not known."""
        return None if self.wire is None else self.wire is Wire.TLS


class HeldSegment(NamedTuple):
    """A segment that is looked at as a whole, or kept for later."""

    ts: int
    """Nanoseconds since 1970."""
    interface: int
    """The index of the interface that it was seen on; 0 where that is not known."""
    seq: int
    ack: int
    flags: int
    window: int
    """The header's field, not scaled."""
    scale: int | None
    """The window's shift count that a SYN offers; None where it offers none, and in all other segments."""
    payload: bytes

    @property
    def end(self) -> int:
        """The sequence number after it: SYN and FIN count for one each."""
        return (self.seq + len(self.payload) + bool(self.flags & SYN) + bool(self.flags & FIN)) & MASK


class Half(Generic[T]):
    """One direction of a connection: what one end sends."""

    __slots__ = ("acked", "connection", "key", "peer", "scale", "side", "stream", "window")

    peer: Half[T]

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

    def says(self, segment: HeldSegment) -> None:
        """What this segment tells of what its sender has received, and of how much more it would take."""
        if segment.flags & SYN:
            self.scale = segment.scale or 0
        if segment.flags & ACK:
            self.acked = segment.ack
            self.window = segment.window


class Connection(Generic[T]):
    """Two halves and their reader. For a redirected connection half 0 is the request's, half 1 the reply's."""

    __slots__ = (
        "_redirected",
        "both_ways",
        "client",
        "consumer",
        "copies",
        "early",
        "ended",
        "first",
        "found_out",
        "gapped",
        "halves",
        "held",
        "interface",
        "last",
        "order",
        "reopening",
        "scope",
        "stranger",
        "suspicion",
        "wire",
    )

    def __init__(self, scope: Scope, key: bytes, other: bytes, client: int | None, ts: int, hole_bytes: int) -> None:
        self.scope = scope
        first, second = Half(self, 0, key, hole_bytes), Half(self, 1, other, hole_bytes)
        first.peer, second.peer = second, first
        self.halves = (first, second)
        self.client = client
        """Which side opened the connection; None where its beginning was not seen."""
        self.both_ways = True
        self._redirected = other != mirror(key)
        self.consumer: Consumer[T] | None = None
        """Who reads it; None for a copy, for one that ended, and where no reader wants more of it."""
        self.ended = False
        """Whether both ends said so, or one reset it, or it was given up."""
        self.early: tuple[int, int, bytes] | None = None
        """(ts, seq, bytes) that came with a first SYN (RFC 7413), which acknowledges nothing: read with the SYN-ACK."""
        self.order: Order | None = None
        """The chunks that wait for bytes of the other side; None while there are none."""
        self.reopening: tuple[int, HeldSegment] | None = None
        """A side and its SYN of another connection with the same ports, which nobody has answered yet."""
        self.stranger: tuple[int, HeldSegment] | None = None
        """A side and its last segment outside the receiver's window, which nobody has acknowledged yet."""
        self.suspicion: Suspicion[T] | None = None
        """While it is not known whether this is a copy of another connection."""
        self.copies: list[Connection[T]] | None = None
        """Those that turned out to be copies of this one."""
        self.first = self.last = ts
        """When its first and its last packet were seen, in nanoseconds since 1970."""
        self.interface = 0
        """The index of the interface of its first packet; 0 where that is not known."""
        self.held = 0
        self.gapped = False
        """Whether bytes of it are missing."""
        self.wire: Wire | None = None
        """What it turned out to carry, as its reader says (`carries`); None while nothing tells."""
        self.found_out: Callable[[Connection[T], Wire | None], None] | None = None
        """Is told when that changes, and what it was before."""

    @property
    def closed(self) -> bool:
        return self.consumer is None

    def carries(self, wire: Wire) -> None:
        """Its reader has found out what it is."""
        before, self.wire = self.wire, wire
        if before is not wire and self.found_out is not None:
            self.found_out(self, before)

    def watch(self) -> None:
        """Have every packet looked at as long as there is something to decide."""
        on = self.order is not None or self.stranger is not None or self.suspicion is not None
        for half in self.halves:
            half.stream.watch(on=on)

    def from_start(self, side: int) -> bool:
        """Whether that side's stream is known from its first byte."""
        return self.halves[side].stream.from_start

    def leg(self, client: int) -> Leg:
        """The leg, given which side turned out to be the client.

        The addresses of a redirected connection are the reply's: its source is the original destination, and its
        destination the application's own socket (the request's source port may be a translated one).
        """
        if self._redirected:
            server_end, client_end = endpoints(self.halves[1].key)
            direction = Direction.OUTBOUND
        else:
            client_end, server_end = endpoints(self.halves[client].key)
            pod = None if self.scope.pod_ip is None else ip_address(self.scope.pod_ip).packed
            direction = classify(client_end, server_end, on_lo=self.scope.on_lo, both_ways=self.both_ways, pod=pod)
            if direction is Direction.LOCAL and self.scope.delivered_from_itself and client_end.address == pod:
                direction = Direction.INBOUND
        pod_ip = self.scope.pod_ip
        if self.scope.some_lo:
            ours = client_end if direction is Direction.OUTBOUND else server_end
            return Leg(None if is_loopback(ours.address) else ours.host, direction, client_end, server_end)
        if pod_ip is None and self.scope.targets is not None:
            ours = server_end if server_end.address in self.scope.targets else client_end
            pod_ip = ours.host
        wire = None if self.scope.on_lo else self.wire
        return Leg(pod_ip, direction, client_end, server_end, wire)


class Suspicion(Generic[T]):
    """That a connection is a copy of another one. Its segments, each with its side, are kept until that is known."""

    __slots__ = ("held", "original", "segments")

    def __init__(self, original: Connection[T]) -> None:
        self.original = original
        self.segments: list[tuple[int, HeldSegment]] = []
        self.held = 0
        """Bytes of these segments."""


def taken(half: Half[T], segment: HeldSegment) -> Iterator[tuple[Half[T], list[Chunk]]]:
    """One segment to its half, flags and all: what it makes of both streams, in order."""
    ts, _, seq, ack, flags, _, _, payload = segment
    connection = half.connection
    if flags & ACK and half.peer.stream.waiting:
        yield half.peer, half.peer.stream.acknowledged(ack)
    if flags & SYN:
        half.stream.syn(seq)
        seq += 1
        if flags & ACK and connection.early is not None:
            first, (early_ts, early_seq, early) = connection.halves[1 - half.side], connection.early
            connection.early = None
            yield first, first.stream.push(early_seq, early, early_ts, seq & MASK)
        elif flags & ACK and half.peer.stream.position < 0:
            half.peer.stream.syn((ack - 1) & MASK)  # its SYN was not seen, and carried no data
        elif payload and not flags & ACK:
            if len(payload) <= _MOST_EARLY_BYTES:
                connection.early = (ts, seq & MASK, payload)
            return
    if payload:
        yield half, half.stream.push(seq & MASK, payload, ts, ack)
    if flags & FIN:
        yield half, half.stream.fin((seq + len(payload)) & MASK)
