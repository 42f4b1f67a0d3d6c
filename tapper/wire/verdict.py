"""Whether the wire under a leg was TLS.

On a pod's lo an exchange is in plaintext; what says how it crossed the wire is the wire. So the connections there are
asked, those of the node's interfaces and, for a pod that calls itself, those to its own inbound listener (15006):

- inbound, delivered from 127.0.0.6, or from the pod's own address (Linkerd): the connections to the pod's address and
  port; delivered from the caller's address (TPROXY): the caller's connections to them;
- outbound: the client's connections to the address and port that it dialled, or, where that is a service's and so
  translated by Envoy, all that the client's pod has.

Where all of them are TLS, or all plaintext, that is the answer. Where there are both, as in PERMISSIVE mode, plaintext
tells: it is decoded, and the same request (method, target, fields) is in it or is not. Both messages of an inbound leg
lie within the exchange on the wire, in time, and those of an outbound leg around it. A request whose twin is there was
plain; one of which no plaintext connection knows anything was TLS, if every byte of the plaintext was read.

Everything else is not known, and None: no connection seen (a node's interface that is not captured, an idle connection
as yet without a packet), too many, half-seen ones, delivery to 127.0.0.1 (an application that talks to itself looks the
same), health probes (pilot-agent sends them from 127.0.0.6 itself). Headers such as x-forwarded-client-cert prove
nothing: whoever sends a request may write them. What remains is two requests alike to the last field at the same
moment, one in plaintext and one not: both count as plain.

Which of two sources is read first means nothing, so this may only be asked once the wire is read past the exchange's
end.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from tapper.protocols.detect import Kind, foreign
from tapper.protocols.exchange import Exchange
from tapper.protocols.heads import begins_request, begins_response
from tapper.protocols.messages import Request
from tapper.protocols.probes import is_probe
from tapper.protocols.records import ExchangeRecord, FactRecord, Record
from tapper.streams.connection import Connection, Consumer, Leg, Wire
from tapper.streams.connections import Connections
from tapper.streams.legs import DELIVERY_ADDRESSES, Direction, is_loopback
from tapper.streams.places import Kinds
from tapper.streams.reassembly import Data

_MOST = 1000
"""Plaintext connections that are looked at for one exchange."""
_MOST_TWINS = 4096
"""Exchanges on the wire that are remembered: seconds of them, and a leg is asked about a fraction of one later."""

_LATE_NS = 1_000_000_000
"""How much later than another a response may be told that came before it: behind a hole, on another interface."""
_NEVER = 1 << 64

# What Envoy takes away, changes or writes anew on the way (RFC 9110 section 7.6.1, and its own).
_CHANGED = frozenset({"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings"})
_CHANGED_PREFIXES = ("x-envoy-", "x-forwarded-", "proxy-", ":")
_HOSTS = frozenset({"host", ":authority"})

_Asked: TypeAlias = tuple[str, str] | None
"""Method and target; None where the request was not seen."""


class Peek(Consumer[Record]):
    """Reads as far as it takes to tell TLS from plaintext."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection[Record]) -> None:
        super().__init__()
        self._connection = connection

    def data(self, side: int, chunk: Data) -> Sequence[Record]:
        connection, data = self._connection, chunk.data
        if connection.wire is None:
            if foreign(data, beginning=False) is Kind.TLS:
                connection.carries(Wire.TLS)
            elif begins_request(data) or begins_response(data) or (connection.from_start(side) and len(data) > 2):
                connection.carries(Wire.PLAIN)
        if connection.wire is not None:
            connection.consumer = None
        return ()

    def gap(self, side: int, size: int | None) -> Sequence[Record]:  # noqa: ARG002
        return ()

    def end(self, side: int) -> Sequence[Record]:  # noqa: ARG002
        return ()

    def finish(self) -> Sequence[Record]:
        return ()


class _Twin(NamedTuple):
    """An exchange on the wire."""

    client: bytes
    ts: int
    end: int
    exchange: Exchange


class Beneath:
    """`node` is the source of the node's interfaces."""

    def __init__(self, node: Connections[Record]) -> None:
        self._node = node.places
        self._twins: dict[_Asked, deque[_Twin]] = {}
        self._order: deque[_Asked] = deque()

    def saw(self, records: Iterable[Record]) -> None:
        """These were read, in plaintext, on the node's interfaces."""
        for record in records:
            if isinstance(record, FactRecord):
                continue
            leg, exchange = record.leg, record.exchange
            asked = _asked(exchange)
            twin = _Twin(leg.src.address, exchange.ts, exchange.end, exchange)
            self._twins.setdefault(asked, deque()).append(twin)
            self._order.append(asked)
            if len(self._order) > _MOST_TWINS:
                oldest = self._order.popleft()
                self._twins[oldest].popleft()
                if not self._twins[oldest]:
                    del self._twins[oldest]

    def told(self, seen: Record, own: Connections[Record]) -> Record:
        """The same with its wire; `own` is the pod's lo that it was seen on."""
        leg = seen.leg
        wire = self.wire(leg, None if isinstance(seen, FactRecord) else seen.exchange, own)
        if wire is None:
            return seen
        leg = Leg(leg.pod_ip, leg.direction, leg.src, leg.dst, wire)
        return FactRecord(leg, seen.fact) if isinstance(seen, FactRecord) else ExchangeRecord(leg, seen.exchange)

    def blind(self, own: Connections[Record]) -> bool:
        """Whether no wire is known beneath anything that is seen on this pod's lo."""
        return not self._node and not own.places

    def settled(self, seen: Record, own: Connections[Record]) -> bool:
        """Whether the connections tell without content. Then nothing that is yet to come changes the answer, once what
        brought this is read."""
        return len({kind for kinds in self._connections(seen.leg, own) for kind in kinds}) <= 1

    def wire(self, leg: Leg, exchange: Exchange | None, own: Connections[Record]) -> Wire | None:
        """What was under this leg of a pod whose lo is `own`; `exchange` is None for what is not one."""
        found = self._connections(leg, own)
        if not found or (exchange is not None and is_probe(leg, exchange)):
            return None
        first, last = (0, _NEVER) if exchange is None else (exchange.ts, exchange.end)
        kinds: set[Wire | None] = set()
        for there in found:
            for kind, those in there.items():
                if kind not in kinds and _some_during(those, first, last):
                    kinds.add(kind)
        if len(kinds) == 1:
            return kinds.pop()
        if kinds != {Wire.TLS, Wire.PLAIN} or exchange is None or exchange.request is None or exchange.response is None:
            return None
        plain = (it for there in found for it in there.get(Wire.PLAIN, ()) if it.first <= last and _until(it, first))
        return self._by_content(leg, exchange, plain)

    def _connections(self, leg: Leg, own: Connections[Record]) -> list[Kinds[Record]]:
        if leg.direction is Direction.INBOUND:
            source, application = leg.src.address, leg.dst.packed
            if source in DELIVERY_ADDRESSES or source == application[:-2]:
                return self._at(application, own)
            return [] if is_loopback(source) else self._at(source + application, own)
        if leg.direction is not Direction.OUTBOUND:
            return []
        client, server = leg.src.address, leg.dst.packed
        return self._at(client + server, own)[:1] or self._at(client, own)

    def _at(self, place: bytes, own: Connections[Record]) -> list[Kinds[Record]]:
        seen, called = self._node.at(place), own.places.at(place)
        return [seen, called] if seen and called else [seen or called] if seen or called else []

    def _by_content(self, leg: Leg, exchange: Exchange, plain: Iterable[Connection[Record]]) -> Wire | None:
        client = None if leg.direction is Direction.INBOUND else leg.src.address
        alike = [
            twin
            for twin in self._at_the_time(exchange)
            if (client is None or client == twin.client) and _alike(exchange, twin.exchange)
        ]
        for twin in alike:
            inner, outer = (exchange, twin.exchange) if client is None else (twin.exchange, exchange)
            if outer.request is not None and outer.ts <= inner.ts and inner.end <= outer.end:
                return Wire.PLAIN
        some = list(itertools.islice(plain, _MOST + 1))
        if alike or len(some) > _MOST or not all(map(_read_whole, some)):
            return None
        return Wire.TLS

    def _at_the_time(self, exchange: Exchange) -> Iterator[_Twin]:
        first, last = exchange.ts, exchange.end
        for asked in (_asked(exchange), None):
            for twin in reversed(self._twins.get(asked, ())):
                if twin.ts <= last and first <= twin.end:
                    yield twin
                elif twin.exchange.response is not None and twin.end + _LATE_NS < first:
                    break  # whoever is answered is told at once, so those before are older


def _some_during(those: dict[Connection[Record], None], first: int, last: int) -> bool:
    """Whether there was one at the time. Mostly the latest was."""
    for it in reversed(those):  # noqa: SIM110 - asked of every exchange, and a generator would cost as much again
        if it.first <= last and _until(it, first):
            return True
    return False


def _until(connection: Connection[Record], first: int) -> bool:
    """Whether it was not over by then; one that was peeked at is closed before it ends."""
    return connection.last >= first or not connection.closed or connection.scope.on_lo


def _asked(exchange: Exchange) -> _Asked:
    request = exchange.request
    return None if request is None else (request.head.method, request.head.target)


def _alike(one: Exchange, other: Exchange) -> bool:
    """Whether two that asked for the same may be one."""
    first, second = one.request, other.request
    if first is None or second is None:
        return True  # nobody knows what it was
    return not (_said(first) - _said(second)) or not (_said(second) - _said(first))


def _said(request: Request) -> frozenset[tuple[str, str]]:
    """The fields that pass a proxy as they are."""
    return frozenset(
        ("host" if name.lower() in _HOSTS else name.lower(), value)
        for name, value in request.head.headers
        if name.lower() in _HOSTS or not (name.lower() in _CHANGED or name.lower().startswith(_CHANGED_PREFIXES))
    )


def _read_whole(connection: Connection[Record]) -> bool:
    """Whether all requests in it are among the exchanges seen."""
    if connection.scope.on_lo:
        return False  # only peeked at
    return connection.from_start(0) and connection.from_start(1) and not connection.held and not connection.gapped
