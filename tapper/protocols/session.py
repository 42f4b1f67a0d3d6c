"""The reader of one connection: finds out what it speaks and which side is the client, then reads HTTP/1 or HTTP/2.

It stands between the streams, which know sides and not roles, and the conversation, which knows roles. A SYN tells who
the client is; where none was seen the first plausible start line or header block does. Bytes that are not HTTP
are never presented as HTTP: such a connection is counted by kind, once, and a FactRecord says what could be seen of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tapper.protocols import heads
from tapper.protocols.bytestream import ByteTally
from tapper.protocols.detect import Kind, foreign, undecided
from tapper.protocols.exchange import Conversation, Exchange, ends_http1
from tapper.protocols.facts import Fact, limited
from tapper.protocols.fieldlist import Headers
from tapper.protocols.http2 import Http2
from tapper.protocols.messages import BODY_LIMIT
from tapper.protocols.readers import PLAIN_READERS, Readers
from tapper.protocols.records import ExchangeRecord, FactRecord, Record
from tapper.protocols.tls import HelloReader
from tapper.protocols.websocket import WebSocket
from tapper.streams.connection import Connection, Consumer, Leg, Wire
from tapper.streams.reassembly import Data
from tapper.streams.sequence import MASK

_NOTHING: Final[tuple[()]] = ()


class Session(Consumer[Record]):
    """Makes records, in the order in which their last bytes came. `count` is called with the kind of a connection that
    is not HTTP, once; `body_limit` is how many bytes of a body are kept; `readers` are the classes that read
    messages."""

    __slots__ = (
        "_body_limit",
        "_client",
        "_connection",
        "_conversation",
        "_count",
        "_early",
        "_gapped",
        "_hello",
        "_http2",
        "_leg",
        "_readers",
        "_tally",
        "_tunnel",
        "_websocket",
    )

    def __init__(
        self,
        connection: Connection[Record],
        count: Callable[[Kind], None],
        body_limit: int = BODY_LIMIT,
        readers: Readers = PLAIN_READERS,
    ) -> None:
        super().__init__()
        self._connection = connection
        self._count = count
        self._body_limit = body_limit
        self._readers = readers
        self._client = connection.client
        self._conversation: Conversation | None = None
        self._http2: Http2 | None = None
        self._hello: HelloReader | None = None  # of a connection that is TLS
        self._tally: ByteTally | None = None  # while nothing is proven
        self._tunnel: ByteTally | None = None  # after HTTP/1 gave the connection to another protocol
        self._websocket: WebSocket | None = None
        self._leg: Leg | None = None
        # Of each side, the first chunks while they are too few to tell what they are; None once that is over.
        self._early: list[list[Data] | None] = [[], []]
        self._gapped = [False, False]  # whether bytes of that side were lost

    def data(self, side: int, chunk: Data) -> Sequence[Record]:
        conversation = self._conversation
        if conversation is not None and conversation.heads and self._early[side] is None:
            made = conversation.from_client(chunk) if side == self._client else conversation.from_server(chunk)
            if not conversation.given_away:
                self.held = conversation.held
                if not made:
                    return _NOTHING
                leg = self._leg
                return [ExchangeRecord(leg, made[0])] if leg is not None and len(made) == 1 else self._sight(made)
            seen = self._handed_over(made, chunk)
            self.held = self._kept()
            return seen
        found = self._data(side, chunk)
        self.held = self._kept()
        return found

    def gap(self, side: int, size: int | None) -> list[Record]:
        made = self._gap(side, size)
        self.held = self._kept()
        return made

    def end(self, side: int) -> list[Record]:
        made = self._end(side)
        self.held = self._kept()
        return made

    def _kept(self) -> int:
        if self._conversation is not None:
            return self._conversation.held
        reader = self._http2 or self._hello or self._websocket
        return 0 if reader is None else reader.held

    def _data(self, side: int, chunk: Data) -> Sequence[Record]:
        if self._tunnel is not None:
            self._tunnel.data(side, chunk)
            return []
        if self._websocket is not None:
            return self._tell(self._websocket.data(side, chunk))
        http2 = self._http2
        if http2 is None:
            return self._unproven(side, chunk)
        if not http2.heads and self._tally is not None:
            self._tally.data(side, chunk)
        return self._sight(http2.data(side, chunk))

    def _gap(self, side: int, size: int | None) -> list[Record]:
        self._gapped[side] = True
        if self._http2 is not None:
            return self._sight(self._http2.gap(side, size))
        if self._tunnel is not None:
            self._tunnel.gap(side, size)
            return []
        if self._websocket is not None:
            return self._tell(self._websocket.gap(side, size))
        if self._hello is not None:
            return self._tell_tls(self._hello.gap(side))
        if self._tally is not None:
            self._tally.gap(side, size)
        done = self._release(side)
        conversation = self._begin()
        if conversation is None:
            return done
        gap = conversation.client_gap if side == self._client else conversation.server_gap
        return done + self._sight(gap(size))

    def _end(self, side: int) -> list[Record]:
        if self._http2 is not None:
            return self._sight(self._http2.end(side))
        done = self._release(side)
        conversation = self._conversation
        if conversation is None:
            return done
        return done + self._sight(conversation.client_end() if side == self._client else conversation.server_end())

    def finish(self) -> list[Record]:
        http2 = self._http2
        if http2 is not None:
            done = self._sight(http2.finish())
            return done if http2.heads and http2.client is not None else [*done, *self._conclude(Kind.HTTP2)]
        if self._tunnel is not None:
            return self._tell([self._tunnel.fact(self._client)])
        if self._websocket is not None:
            return self._tell(self._websocket.finish())
        if self._hello is not None:
            return self._tell_tls(self._hello.finish())
        done = self._release(0) + self._release(1)
        conversation = self._conversation
        if conversation is not None:
            done += self._sight(conversation.finish())
        if conversation is None or not conversation.heads:
            done += self._conclude(Kind.OTHER)
        return done

    def _conclude(self, kind: Kind) -> list[Record]:
        """Nobody could read this connection, if there was anything to read."""
        fact = None
        if self._tally is not None:
            self._tally.what = kind
            fact = self._tally.fact(self._client)
        if fact is not None:
            self._count(kind)
        return self._tell([fact])

    def _tell(self, facts: Sequence[Fact | None]) -> list[Record]:
        leg = self._connection.leg(self._client or 0)
        return [FactRecord(leg, limited(fact, self._body_limit)) for fact in facts if fact is not None]

    def _tell_tls(self, fact: Fact | None) -> list[Record]:
        if self._hello is not None:
            self._client = self._hello.client
        return self._tell([fact])

    def _unproven(self, side: int, chunk: Data) -> list[Record]:
        """Bytes of a connection that has shown no HTTP yet, or the first ones of a side."""
        if self._hello is not None:
            return self._tell_tls(self._hello.data(side, chunk.data, chunk.ts))
        if not self._proven:
            if self._tally is None:
                self._tally = ByteTally(Kind.OTHER)
            self._tally.data(side, chunk)
        early = self._early[side]
        beginning = early is not None and self._connection.from_start(side)
        chunks = [*early, chunk] if early else [chunk]
        data = b"".join(piece.data for piece in chunks)
        kind = None if self._proven else foreign(data, beginning=beginning)
        begun_otherwise = early is None and self._connection.from_start(side) and not self._gapped[side]
        if kind is Kind.HTTP2 and begun_otherwise:
            kind = None  # HTTP/2 begins with a preface, and its beginning was seen
        if kind is Kind.HTTP2:
            in_step = (self._untouched(0), self._untouched(1))
            self._early[side] = chunks
            return self._begin_http2(in_step)
        if kind is not None:
            self._count(kind)
            return self._begin_tls(side, chunks)
        if beginning and not self._proven and undecided(data):
            self._early[side] = chunks
            return []
        self._early[side] = chunks
        if self._client is None:
            if heads.begins_request(data):
                self._client = side
            elif heads.begins_response(data):
                self._client = 1 - side
        done = self._release(side)
        if self._proven:
            self._tally = None
        if beginning or self._proven:
            self._connection.carries(Wire.PLAIN)  # TLS would have begun with a record
        return done

    def _untouched(self, side: int) -> bool:
        """Whether all that this side sent is known and still unread."""
        return self._early[side] is not None and self._connection.from_start(side)

    def _begin_http2(self, in_step: tuple[bool, bool]) -> list[Record]:
        """From here on the connection is HTTP/2; what was kept of its beginning comes first."""
        http2 = self._http2 = self._readers.http2(self._client, in_step, self._body_limit)
        self._connection.carries(Wire.PLAIN)
        self._conversation = None
        done: list[Record] = []
        for side, early in enumerate(self._early):
            for chunk in early or ():
                done += self._sight(http2.data(side, chunk))
        self._early = [None, None]
        return done

    def _begin_tls(self, side: int, chunks: list[Data]) -> list[Record]:
        hello = self._hello = HelloReader(self._client)
        self._connection.carries(Wire.TLS)
        self._conversation = self._tally = None
        other = self._early[1 - side] or ()
        done: list[Record] = []
        self._early = [None, None]
        for sender, chunk in [*((1 - side, chunk) for chunk in other), *((side, chunk) for chunk in chunks)]:
            done += self._tell_tls(hello.data(sender, chunk.data, chunk.ts))
        return done

    def _upgraded(self, exchange: Exchange, chunk: Data) -> list[Record] | None:
        """After an answer of 101 or to CONNECT, what follows is not HTTP/1 (RFC 9110 sections 7.8 and 9.3.6). Returns
        what comes in place of this exchange, if anything. `chunk`, of the server, had the answer's last byte."""
        request, response = exchange.request, exchange.response
        if response is None or self._client is None or not ends_http1(request, response.head):
            return None
        self._tally = None
        read = (response.end.seq - chunk.seq) & MASK
        rest = Data(chunk.data[read:], chunk.ts, response.end.seq, chunk.ack)
        tokens = [value.strip().lower() for name, value in response.head.headers if name.lower() == "upgrade"]
        if tokens != ["h2c"] or request is None:
            # The exchange goes out first, then what came behind it in the same segment.
            return [*self._sight([exchange]), *self._begin_tunnel(tokens, response.head.headers, rest)]
        # A request for h2c gets its final answer in HTTP/2: 101 is an interim one.
        http2 = self._http2 = self._readers.http2(self._client, (True, True), self._body_limit)
        http2.upgraded(request)
        self._conversation = None
        return self._sight(http2.data(1 - self._client, rest)) if rest.data else []

    def _begin_tunnel(self, tokens: list[str], headers: Headers, rest: Data) -> Sequence[Record]:
        assert self._client is not None, "an answer was read"
        self._conversation = None
        if tokens == ["websocket"]:
            self._websocket = WebSocket(self._client, headers, rest.ts)
        else:
            self._tunnel = ByteTally((tokens or ["tunnel"])[0])
        return self._data(1 - self._client, rest) if rest.data else []

    @property
    def _proven(self) -> bool:
        return self._conversation is not None and self._conversation.heads > 0

    def _release(self, side: int) -> list[Record]:
        """Read what was kept of a side's beginning; from here on its chunks are read as they come."""
        early, self._early[side] = self._early[side], None
        done: list[Record] = []
        conversation = self._begin() if early else None
        if conversation is not None and early:
            for chunk in early:
                done += self._read(conversation, side, chunk)
        return done

    def _begin(self) -> Conversation | None:
        """The conversation, made when it is first needed; None while the roles are unknown or if there is no HTTP."""
        if self._conversation is None and self._client is not None:
            started = self._connection.from_start
            self._conversation = self._readers.http1(
                client_in_step=started(self._client),
                server_in_step=started(1 - self._client),
                body_limit=self._body_limit,
            )
        return self._conversation

    def _read(self, conversation: Conversation, side: int, chunk: Data) -> list[Record]:
        made = conversation.from_client(chunk) if side == self._client else conversation.from_server(chunk)
        return self._handed_over(made, chunk) if conversation.given_away else self._sight(made)

    def _handed_over(self, exchanges: list[Exchange], chunk: Data) -> list[Record]:
        """What was read of a connection that, it seems, is not HTTP/1 any longer."""
        upgraded = self._upgraded(exchanges[-1], chunk) if exchanges else None
        return self._sight(exchanges) if upgraded is None else [*self._sight(exchanges[:-1]), *upgraded]

    def _sight(self, exchanges: list[Exchange]) -> list[Record]:
        if not exchanges:
            return []
        if self._leg is None:
            if self._http2 is not None:
                self._client = self._http2.client
            assert self._client is not None, "whoever makes exchanges knows who asked"
            self._leg = self._connection.leg(self._client)
        return [ExchangeRecord(self._leg, exchange) for exchange in exchanges]
