"""Whether the wire under a leg was TLS.

On a pod's lo an exchange is in plaintext; what says how it crossed the wire is the wire. So the connections there are
asked, those of the node's interfaces and, for a pod that calls itself, those to its own inbound listener (15006):

- inbound, delivered from 127.0.0.6: the connections to the pod's address and port;
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

import functools
from collections import deque
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import TypeAlias

from tapper.protocols.detect import Kind, foreign
from tapper.protocols.exchange import Exchange, Request
from tapper.protocols.facts import Note
from tapper.protocols.heads import begins_request, begins_response
from tapper.protocols.probes import is_probe
from tapper.protocols.session import Sighting
from tapper.streams.connection import Connection, Leg, Wire
from tapper.streams.connections import Connections
from tapper.streams.legs import DELIVERY_ADDRESSES, Direction
from tapper.streams.reassembly import Data

_MOST = 1000
"""Connections that are looked at for one exchange."""
_MOST_TWINS = 4096
"""Exchanges on the wire that are remembered: seconds of them, and a leg is asked about a fraction of one later."""

# What Envoy takes away, changes or writes anew on the way (RFC 9110 section 7.6.1, and its own).
_CHANGED = frozenset({"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings"})
_CHANGED_PREFIXES = ("x-envoy-", "x-forwarded-", "proxy-", ":")
_HOSTS = frozenset({"host", ":authority"})

_Asked: TypeAlias = tuple[str, str] | None
"""Method and target; None where the request was not seen."""


class Peek:
    """A `tapper.streams.connection.Consumer` that reads as far as it takes to tell TLS from plaintext."""

    __slots__ = ("_connection",)

    held = 0

    def __init__(self, connection: Connection[Sighting]) -> None:
        self._connection = connection

    def data(self, side: int, chunk: Data) -> Sequence[Sighting]:
        connection, data = self._connection, chunk.data
        if connection.wire is None:
            if foreign(data, beginning=False) is Kind.TLS:
                connection.wire = Wire.TLS
            elif begins_request(data) or begins_response(data) or (connection.from_start(side) and len(data) > 2):
                connection.wire = Wire.PLAIN
        if connection.wire is not None:
            connection.consumer = None
        return ()

    def gap(self, _side: int, _size: int | None) -> Sequence[Sighting]:
        return ()

    def end(self, _side: int) -> Sequence[Sighting]:
        return ()

    def finish(self) -> Sequence[Sighting]:
        return ()


class Beneath:
    """`node` is the source of the node's interfaces."""

    def __init__(self, node: Connections[Sighting]) -> None:
        self._node = node
        self._twins: dict[_Asked, deque[tuple[bytes, Exchange]]] = {}
        self._order: deque[_Asked] = deque()

    def saw(self, sightings: Iterable[Sighting]) -> None:
        """These were read, in plaintext, on the node's interfaces."""
        for sighting in sightings:
            asked = _asked(sighting.exchange)
            self._twins.setdefault(asked, deque()).append((place_of(sighting.leg.src)[:-2], sighting.exchange))
            self._order.append(asked)
            if len(self._order) > _MOST_TWINS:
                oldest = self._order.popleft()
                self._twins[oldest].popleft()
                if not self._twins[oldest]:
                    del self._twins[oldest]

    def told(self, seen: Sighting | Note, own: Connections[Sighting]) -> Sighting | Note:
        """The same with its wire; `own` is the pod's lo that it was seen on."""
        leg = seen.leg
        wire = self.wire(leg, None if isinstance(seen, Note) else seen.exchange, own)
        if wire is None:
            return seen
        leg = Leg(leg.pod_ip, leg.direction, leg.src, leg.dst, wire)
        return Note(leg, seen.fact) if isinstance(seen, Note) else Sighting(leg, seen.exchange)

    def settled(self, seen: Sighting | Note, own: Connections[Sighting]) -> bool:
        """Whether content need not tell: nothing that is yet to come can change the answer, once its own connection
        is known."""
        return len({connection.wire for connection in self._connections(seen.leg, own)}) <= 1

    def wire(self, leg: Leg, exchange: Exchange | None, own: Connections[Sighting]) -> Wire | None:
        """What was under this leg of a pod whose lo is `own`; `exchange` is None for what is not one."""
        found = self._connections(leg, own)
        if not found or len(found) > _MOST:
            return None
        if exchange is not None:
            first, last = exchange.ts, exchange.end
            found = [it for it in found if it.first <= last and not (it.closed and it.last < first)]
            if is_probe(leg, exchange):
                return None
        kinds = {connection.wire for connection in found}
        if len(kinds) == 1:
            return kinds.pop()
        if kinds != {Wire.TLS, Wire.PLAIN} or exchange is None or exchange.request is None or exchange.response is None:
            return None
        return self._by_content(leg, exchange, found)

    def _connections(self, leg: Leg, own: Connections[Sighting]) -> list[Connection[Sighting]]:
        server = place_of(leg.dst)
        if leg.direction is Direction.INBOUND:
            if place_of(leg.src)[:-2] not in DELIVERY_ADDRESSES:
                return []
            return [*self._node.between(server), *own.between(server)]
        if leg.direction is not Direction.OUTBOUND:
            return []
        client = place_of(leg.src)[:-2]
        return (
            self._node.between(server, client)
            or own.between(server, client)
            or [*self._node.between(client), *own.between(client)]
        )

    def _by_content(self, leg: Leg, exchange: Exchange, found: list[Connection[Sighting]]) -> Wire | None:
        alike = [
            twin
            for asked in (_asked(exchange), None)
            for client, twin in self._twins.get(asked, ())
            if _overlap(exchange, twin)
            and _alike(exchange, twin)
            and (leg.direction is Direction.INBOUND or client == place_of(leg.src)[:-2])
        ]
        if leg.direction is Direction.INBOUND:
            nested = any(_within(exchange, twin) for twin in alike)
        else:
            nested = any(_within(twin, exchange) for twin in alike)
        if nested:
            return Wire.PLAIN
        plain = [connection for connection in found if connection.wire is Wire.PLAIN]
        if alike or not all(map(_read_whole, plain)):
            return None
        return Wire.TLS


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


def _within(inner: Exchange, outer: Exchange) -> bool:
    return outer.request is not None and outer.ts <= inner.ts and inner.end <= outer.end


def _overlap(one: Exchange, other: Exchange) -> bool:
    return one.ts <= other.end and other.ts <= one.end


def _read_whole(connection: Connection[Sighting]) -> bool:
    """Whether all requests in it are among the exchanges seen."""
    if connection.scope.on_lo:
        return False  # only peeked at
    return connection.from_start(0) and connection.from_start(1) and not connection.held and not connection.gapped


@functools.lru_cache(maxsize=4096)
def place_of(endpoint: str) -> bytes:
    """`10.0.0.1:80` or `[fd00::1]:80` as address and port in network byte order."""
    address, _, port = endpoint.rpartition(":")
    return ip_address(address.strip("[]")).packed + int(port).to_bytes(2, "big")
