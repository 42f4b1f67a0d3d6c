"""Tells whether the wire below a leg was TLS.

On a pod's lo an exchange is plaintext. Connections on the wire tell how it crossed the wire: those on the node's
interfaces and, for a pod that calls itself, those on its lo to its inbound listener (15006). The connections that may
have carried a leg are found by address:

| leg      | client's address on lo         | connections                                                     |
|----------|--------------------------------|-----------------------------------------------------------------|
| inbound  | 127.0.0.6, ::6, the pod's own  | all to the pod's address and port                               |
| inbound  | any other but loopback (TPROXY)| of this client to the pod's address and port                    |
| outbound | any                            | of this client to the address and port that it dialled; without |
|          |                                | any, all of this client, since a service's address is translated|
| other    |                                | none                                                            |

Of these, the connections that existed during the exchange decide:

| connections       | plaintext                                                            | verdict |
|-------------------|----------------------------------------------------------------------|---------|
| none              |                                                                      | unknown |
| all TLS           |                                                                      | TLS     |
| all plaintext     |                                                                      | plain   |
| TLS and plaintext | has the same exchange, at the right time                             | plain   |
| TLS and plaintext | every byte was read, and no exchange may be the same                 | TLS     |
| all else          |                                                                      | unknown |

The same exchange has the same method and target, and the fields that proxies do not change. An inbound leg lies within
the exchange on the wire, in time; an outbound leg lies around it. Health probes are unknown, since pilot-agent sends
them from 127.0.0.6 itself; so is a delivery to 127.0.0.1, since an application that calls itself looks the same.
Header fields such as x-forwarded-client-cert prove nothing, because any sender can write them. Known limit: of two
identical concurrent requests, one encrypted and one not, both are reported as plain.

The order in which sources are read means nothing, so an exchange is judged once the wire is read past its end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from tapper.protocols.detect import Kind, recognise
from tapper.protocols.exchange import Exchange
from tapper.protocols.heads import begins_request, begins_response
from tapper.protocols.messages import RequestHead
from tapper.protocols.probes import is_probe
from tapper.protocols.records import ExchangeRecord, FactRecord, Record
from tapper.streams.connection import Connection, Consumer, Leg, WireSecurity
from tapper.streams.connections import Connections
from tapper.streams.endpoint_index import ByWire
from tapper.streams.legs import DELIVERY_ADDRESSES, Direction, is_loopback
from tapper.streams.reassembly import Data

_MOST_PLAIN = 1000
"""Plaintext connections that are compared for one exchange."""
MOST_REMEMBERED = 4096
"""Exchanges on the wire that are remembered: seconds of them. A leg is judged a fraction of a second later."""
MOST_REMEMBERED_BYTES = 16 << 20
"""What they may take together, in bytes of memory."""
_NEVER = 1 << 64
_CROSSING_COST = 600  # bytes of memory, besides those of the head

# Fields that Envoy removes, changes or adds on the way (RFC 9110 section 7.6.1, and its own).
_CHANGED = frozenset({"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings"})
_CHANGED_PREFIXES = ("x-envoy-", "x-forwarded-", "proxy-", ":")
_HOSTS = frozenset({"host", ":authority"})

_RequestLine: TypeAlias = tuple[str, str] | None
"""Method and target; None where the request was not captured."""


class TlsProbe(Consumer[Record]):
    """Reads a connection only until it is known to be TLS or plaintext, then lets go of it."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection[Record]) -> None:
        super().__init__()
        self._connection = connection

    def data(self, side: int, chunk: Data) -> Sequence[Record]:
        connection, data = self._connection, chunk.data
        if connection.wire is None:
            if recognise(data, beginning=False) is Kind.TLS:
                connection.set_wire(WireSecurity.TLS)
            elif begins_request(data) or begins_response(data) or (connection.from_start(side) and len(data) > 2):
                connection.set_wire(WireSecurity.PLAIN)
        if connection.wire is not None:
            connection.consumer = None
        return ()

    def gap(self, side: int, size: int | None) -> Sequence[Record]:  # noqa: ARG002
        return ()

    def end(self, side: int) -> Sequence[Record]:  # noqa: ARG002
        return ()

    def finish(self) -> Sequence[Record]:
        return ()


@dataclass(frozen=True, slots=True)
class _Crossing:
    """What is remembered of a plaintext exchange on the node's interfaces: not its bodies."""

    client: bytes
    """The client's address."""
    request: RequestHead | None
    ts: int
    end: int
    """The times of its first and last byte, in nanoseconds since 1970."""
    latest_end: int
    """The latest end among it and all crossings with the same request line that were reported before."""

    @property
    def cost(self) -> int:
        """Bytes of memory, roughly."""
        return _CROSSING_COST + (0 if self.request is None else self.request.cost)


class _WireExchanges:
    """The last plaintext exchanges on the node's interfaces, by request line, in the order of their reports."""

    def __init__(self) -> None:
        self._by_line: dict[_RequestLine, deque[_Crossing]] = {}
        self._lines: deque[_RequestLine] = deque()
        self._held = 0

    def add(self, record: ExchangeRecord) -> None:
        exchange = record.exchange
        head = None if exchange.request is None else exchange.request.head
        line = _request_line(head)
        crossings = self._by_line.setdefault(line, deque())
        latest_end = max(exchange.end, crossings[-1].latest_end if crossings else 0)
        crossing = _Crossing(record.leg.src.address, head, exchange.ts, exchange.end, latest_end)
        crossings.append(crossing)
        self._lines.append(line)
        self._held += crossing.cost
        while len(self._lines) > MOST_REMEMBERED or self._held > MOST_REMEMBERED_BYTES:
            oldest = self._lines.popleft()
            self._held -= self._by_line[oldest].popleft().cost
            if not self._by_line[oldest]:
                del self._by_line[oldest]

    def like(self, exchange: Exchange, request: RequestHead) -> Iterator[_Crossing]:
        """Those at the same time that may be the same exchange, which has this request."""
        for line in (_request_line(request), None):
            for crossing in reversed(self._by_line.get(line, ())):
                if crossing.latest_end < exchange.ts:
                    break  # this one and all before it are older
                overlaps = crossing.ts <= exchange.end and exchange.ts <= crossing.end
                if overlaps and _may_be_same(request, crossing.request):
                    yield crossing


class WireVerdict:
    """`node` are the connections on the node's interfaces; in the methods, `own` are those on the lo of the pod that a
    record is from."""

    def __init__(self, node: Connections[Record]) -> None:
        self._node = node.by_endpoint
        self._exchanges = _WireExchanges()

    def observe(self, records: Iterable[Record]) -> None:
        """Remember plaintext exchanges on the node's interfaces."""
        for record in records:
            if isinstance(record, ExchangeRecord):
                self._exchanges.add(record)

    def annotate(self, record: Record, own: Connections[Record]) -> Record:
        """The record with the verdict in its leg."""
        exchange = record.exchange if isinstance(record, ExchangeRecord) else None
        wire = self.wire(record.leg, exchange, own)
        if wire is None:
            return record
        leg = Leg(record.leg.pod_ip, record.leg.direction, record.leg.src, record.leg.dst, wire)
        return FactRecord(leg, record.fact) if isinstance(record, FactRecord) else ExchangeRecord(leg, record.exchange)

    def has_no_wire(self, own: Connections[Record]) -> bool:
        """Whether all records of this pod are unknown, since no connection on a wire is."""
        return not self._node and not own.by_endpoint

    def is_final(self, record: Record, own: Connections[Record]) -> bool:
        """Whether the verdict is by the connections alone. Then no later packet changes it, once those that brought
        the record are read."""
        return len({wire for index in self._connections(record.leg, own) for wire in index}) <= 1

    def wire(self, leg: Leg, exchange: Exchange | None, own: Connections[Record]) -> WireSecurity | None:
        """The verdict on a leg; `exchange` is None for a fact."""
        found = self._connections(leg, own)
        if not found or (exchange is not None and is_probe(leg, exchange)):
            return None
        # 1. What did the connections carry that existed at the time?
        first, last = (0, _NEVER) if exchange is None else (exchange.ts, exchange.end)
        wires = {
            wire for index in found for wire, connections in index.items() if any(_during(connections, first, last))
        }
        if len(wires) == 1:
            return wires.pop()
        if (
            wires != {WireSecurity.TLS, WireSecurity.PLAIN}
            or exchange is None
            or exchange.request is None
            or exchange.response is None
        ):
            return None
        # 2. TLS and plaintext: is the exchange in the plaintext?
        inbound = leg.direction is Direction.INBOUND
        crossings = self._exchanges.like(exchange, exchange.request.head)
        like = [it for it in crossings if inbound or it.client == leg.src.address]
        for it in like:
            within = it.request is not None and it.ts <= exchange.ts and exchange.end <= it.end
            around = exchange.ts <= it.ts and it.end <= exchange.end
            if within if inbound else around:
                return WireSecurity.PLAIN
        # 3. Can it be excluded from the plaintext?
        all_plain = (it for index in found for it in _during(index.get(WireSecurity.PLAIN, {}), first, last))
        plain = list(islice(all_plain, _MOST_PLAIN + 1))
        return (
            WireSecurity.TLS
            if not like and len(plain) <= _MOST_PLAIN and all(map(_is_read_completely, plain))
            else None
        )

    def _connections(self, leg: Leg, own: Connections[Record]) -> list[ByWire[Record]]:
        """The connections that may have carried the leg, by what they carry."""
        client, server = leg.src.address, leg.dst.packed
        if leg.direction is Direction.INBOUND:
            if client in DELIVERY_ADDRESSES or client == leg.dst.address:
                return self._at(server, own)
            return [] if is_loopback(client) else self._at(client + server, own)
        if leg.direction is Direction.OUTBOUND:
            return self._at(client + server, own)[:1] or self._at(client, own)
        return []

    def _at(self, place: bytes, own: Connections[Record]) -> list[ByWire[Record]]:
        return [index for index in (self._node.at(place), own.by_endpoint.at(place)) if index]


def _during(connections: dict[Connection[Record], None], first: int, last: int) -> Iterator[Connection[Record]]:
    """The connections that existed between two moments, the latest first."""
    for connection in reversed(connections):
        # TlsProbe closes a connection before it ends.
        is_over = connection.closed and not connection.scope.on_lo
        if connection.first <= last and (connection.last >= first or not is_over):
            yield connection


def _request_line(request: RequestHead | None) -> _RequestLine:
    return None if request is None else (request.method, request.target)


def _may_be_same(one: RequestHead, other: RequestHead | None) -> bool:
    """Whether two requests with the same request line may be the same: a proxy adds fields, or removes some."""
    if other is None:
        return True
    first, second = _fields(one), _fields(other)
    return first <= second or second <= first


def _fields(request: RequestHead) -> frozenset[tuple[str, str]]:
    """The fields that pass a proxy unchanged."""
    return frozenset(
        ("host" if name.lower() in _HOSTS else name.lower(), value)
        for name, value in request.headers
        if name.lower() in _HOSTS or not (name.lower() in _CHANGED or name.lower().startswith(_CHANGED_PREFIXES))
    )


def _is_read_completely(connection: Connection[Record]) -> bool:
    """Whether all requests in it are among the exchanges. TlsProbe reads only its beginning."""
    read = not connection.scope.on_lo and connection.from_start(0) and connection.from_start(1)
    return read and not connection.held and not connection.gapped
