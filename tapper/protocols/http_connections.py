"""HTTP/1 as a reader of a connection, and what a connection becomes after HTTP/1."""

from __future__ import annotations

from collections.abc import Sequence

from tapper.protocols.bytestream import ByteTally
from tapper.protocols.connection_reader import ConnectionReader, Content
from tapper.protocols.exchange import Exchange, exchange_id
from tapper.protocols.outcome import OPEN, ExchangeOutcome
from tapper.protocols.pending_request import ends_http1
from tapper.protocols.reader_classes import Readers
from tapper.protocols.websocket import WebSocket
from tapper.streams.bounds import Pace
from tapper.streams.reassembly import Data
from tapper.streams.sequence import MASK


class Http1Connection(ConnectionReader):
    """HTTP/1 until a response gives the connection to another protocol. `started` tells of each side whether it is read
    from its first byte; `pace` bounds what is told of exchanges while they go on."""

    __slots__ = ("_body_limit", "_conversation", "_pace", "_readers", "_server")

    def __init__(
        self, client: int, started: tuple[bool, bool], body_limit: int, readers: Readers, pace: Pace | None
    ) -> None:
        super().__init__(client)
        self._server = 1 - client
        self._body_limit = body_limit
        self._readers = readers
        self._pace = pace
        self._conversation = readers.http1(
            client_in_step=started[client], server_in_step=started[1 - client], body_limit=body_limit, pace=pace
        )

    @property
    def held(self) -> int:
        return self._conversation.held

    @property
    def proven(self) -> bool:
        """Whether a message head was read."""
        return self._conversation.heads > 0

    def data(self, side: int, chunk: Data) -> Sequence[Content]:
        conversation = self._conversation
        exchanges = conversation.from_server(chunk) if side == self._server else conversation.from_client(chunk)
        contents = self._give_away(exchanges, chunk) if conversation.given_away else exchanges
        return self._with_facts(contents) if conversation.facts else contents

    def _with_facts(self, contents: Sequence[Content]) -> Sequence[Content]:
        """The facts about a response that goes on, and then what has become complete."""
        facts, self._conversation.facts = self._conversation.facts, []
        return [*facts, *contents]

    def pass_time(self, now: int) -> Sequence[Content]:
        self._conversation.pass_time(now)
        return self._with_facts(self._conversation.prove(now))

    def gap(self, side: int, size: int | None) -> Sequence[Content]:
        conversation = self._conversation
        exchanges = conversation.server_gap(size) if side == self._server else conversation.client_gap(size)
        return self._with_facts(exchanges)

    def end(self, side: int) -> Sequence[Content]:
        conversation = self._conversation
        return self._with_facts(conversation.server_end() if side == self._server else conversation.client_end())

    def finish(self, unfinished: ExchangeOutcome = OPEN) -> Sequence[Content]:
        return self._with_facts(self._conversation.finish(unfinished))

    def _give_away(self, exchanges: list[Exchange], chunk: Data) -> Sequence[Content]:
        """After a response of 101 or to CONNECT the connection is not HTTP/1 (RFC 9110 sections 7.8 and 9.3.6). `chunk`
        has the response's last byte."""
        # 1. Which exchange is it? Those after it are of requests that were answered before their ends came.
        upgrades = [
            (exchange, exchange.response)
            for exchange in exchanges
            if exchange.response is not None and ends_http1(exchange.request, exchange.response.head)
        ]
        if not upgrades:
            return exchanges  # its request has no end
        upgrade, response = upgrades[-1]
        request = upgrade.request
        contents: list[Content] = [*exchanges]
        # 2. Which protocol follows? A request for h2c gets its final response in HTTP/2: 101 is an interim one.
        tokens = [value.strip().lower() for value in response.head.fields.all("upgrade")]
        if tokens == ["h2c"] and request is not None:
            http2 = self._readers.http2(self.client, (True, True), self._body_limit, self._pace)
            http2.upgraded(request)
            self.successor = http2
            contents = [exchange for exchange in exchanges if exchange is not upgrade]
        elif tokens == ["websocket"]:
            first = response.head if request is None else request.head
            identity = upgrade.id = exchange_id(first.ts, first.seq)
            self.successor = WebSocket(1 - self._server, response.head.headers, chunk.ts, self._body_limit, identity)
        else:
            self.successor = ByteTally(tokens[0] if tokens else "tunnel", self.client)
        # 3. The rest of the chunk belongs to that protocol.
        rest = chunk.data[(response.end.seq - chunk.seq) & MASK :]
        if rest:
            contents += self.successor.data(self._server, Data(rest, chunk.ts, response.end.seq, chunk.ack))
        return contents
