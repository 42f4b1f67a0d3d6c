"""The session of one connection: switches between the readers of protocols, and makes records of what they read.

Streams know two sides; a protocol knows a client and a server. A SYN tells which side is the client. Where the SYN was
not captured, the first plausible start line, header block or ClientHello does.

One reader at a time reads a connection. All have the same interface (`connection_reader.ConnectionReader`), and name
their successor when another protocol begins:

| state     | reader           | module           | successor                                                          |
|-----------|------------------|------------------|--------------------------------------------------------------------|
| Undecided | Undecided        | detect           | TlsHello at a TLS record; Http2 at a preface, a server's SETTINGS  |
|           |                  |                  | or a segment of frames; Http1, which reads on trial, at the first  |
|           |                  |                  | message head                                                       |
| Http1     | Http1Connection  | http_connections | after a response of 101: WebSocket, Http2 (h2c) or Tunnel, by its  |
|           |                  |                  | Upgrade field; after a 2xx response to CONNECT: Tunnel             |
| Http2     | Http2            | http2            |                                                                    |
| TlsHello  | HelloReader      | tls              |                                                                    |
| WebSocket | WebSocket        | websocket        |                                                                    |
| Tunnel    | ByteTally        | bytestream       |                                                                    |

A connection of which no record was made when it ends is not HTTP: it is counted by kind, and a fact tells how many
bytes it had and how they began. Such bytes are never presented as HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tapper.protocols.bytestream import ByteTally
from tapper.protocols.connection_reader import ConnectionReader, Content
from tapper.protocols.detect import Kind, Undecided
from tapper.protocols.exchange import Exchange
from tapper.protocols.facts import RefusedAttempt
from tapper.protocols.http2 import Http2
from tapper.protocols.messages import BODY_LIMIT
from tapper.protocols.outcome import ExchangeOutcome, OutcomeKind, role
from tapper.protocols.reader_classes import PLAIN_READERS, Readers
from tapper.protocols.records import ExchangeRecord, FactRecord, Record
from tapper.protocols.tls import HelloReader
from tapper.streams.connection import Connection, Consumer, EndKind, Leg, WireSecurity
from tapper.streams.reassembly import Data

_OUTCOMES: Final = {
    EndKind.FIN: OutcomeKind.TIMEOUT,
    EndKind.RESET: OutcomeKind.RESET,
    EndKind.GONE: OutcomeKind.TIMEOUT,
    EndKind.REPLACED: OutcomeKind.LOST,
    EndKind.UNSEEN: OutcomeKind.OPEN,
}
"""The outcome of an exchange that had not ended when its connection did."""


class Session(Consumer[Record]):
    """Reads one connection. `count` is called with the kind of a connection that is not HTTP, once; `body_limit` is how
    many bytes of a body or of a WebSocket message are kept; `readers` are the classes that read HTTP; with `streams`,
    exchanges that go on for long are told while they do. The methods return the records that became complete, in
    order."""

    __slots__ = ("_connection", "_count", "_leg", "_reader", "_tally")

    def __init__(
        self,
        connection: Connection[Record],
        count: Callable[[Kind], None],
        body_limit: int = BODY_LIMIT,
        readers: Readers = PLAIN_READERS,
        *,
        streams: bool = True,
    ) -> None:
        super().__init__()
        self._connection = connection
        self._count = count
        pace = connection.budget.parts if streams else None
        self._reader: ConnectionReader = Undecided(connection, body_limit, readers, pace)
        self._leg: Leg | None = None
        """Of all records; None before the first."""
        self._tally: ByteTally | None = ByteTally(Kind.OTHER)
        """Counts the bytes before the first record; None from then on."""

    def data(self, side: int, chunk: Data) -> Sequence[Record]:
        if self._tally is not None:
            self._tally.data(side, chunk)
        return self._records(self._reader.data(side, chunk))

    def gap(self, side: int, size: int | None) -> Sequence[Record]:
        if self._tally is not None:
            self._tally.gap(side, size)
        return self._records(self._reader.gap(side, size))

    def pass_time(self, now: int) -> Sequence[Record]:
        return self._records(self._reader.pass_time(now))

    def end(self, side: int) -> Sequence[Record]:
        return self._records(self._reader.end(side))

    def finish(self) -> Sequence[Record]:
        end = self._connection.end
        if end.kind is EndKind.REFUSED:
            return self._refused()
        by = role(end.side, self._reader.current.client)
        records, tally = self._records(self._reader.finish(ExchangeOutcome(_OUTCOMES[end.kind], by))), self._tally
        if tally is None or not tally.begun:
            return records
        kind = tally.kind = Kind.HTTP2 if isinstance(self._reader, Http2) else Kind.OTHER
        tally.client = self._reader.client
        self._count(kind)
        return self._records(tally.finish())

    def _refused(self) -> Sequence[Record]:
        connection = self._connection
        budget, leg = connection.budget, connection.leg(self._reader.client or 0)
        budget.tally.refused += 1
        left_out = budget.refusals.tell(leg.pod_ip or leg.dst.host, connection.last)
        return [] if left_out is None else [FactRecord(leg, RefusedAttempt(connection.first, left_out))]

    def _records(self, contents: Sequence[Content]) -> list[Record]:
        # 1. Another protocol may have begun.
        if self._reader.successor is not None:
            self._reader = self._reader.current
            is_tls = isinstance(self._reader, HelloReader)
            self._connection.set_wire(WireSecurity.TLS if is_tls else WireSecurity.PLAIN)
            if is_tls:
                self._count(Kind.TLS)
        self.held = self._reader.held
        if not contents:
            return []
        # 2. While the client is not known, side 0 is taken for it.
        leg = self._leg
        if leg is None:
            leg = self._leg = self._connection.leg(self._reader.client or 0)
            self._tally = None
        return [
            ExchangeRecord(leg, content) if isinstance(content, Exchange) else FactRecord(leg, content)
            for content in contents
        ]
