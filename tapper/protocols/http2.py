"""Both directions of a cleartext HTTP/2 connection become exchanges (RFC 9113), one for each stream.

Streams carry numbers, so pairing needs no order and no guess: what both sides send on one stream belongs together. What
loss costs is the header tables (`tapper.protocols.blocks`). Fields that refer to entries nobody here has seen are left
out and the exchange says that it is incomplete; a method, target or status among them stays empty.

An exchange is over when both sides have ended their half. After a loss a half may have ended unseen; then the other's
end suffices for the response, and for a request whose response was lost, the end of the connection.
"""

from __future__ import annotations

from typing import Final

from tapper.protocols.blocks import BlockReader
from tapper.protocols.exchange import Exchange
from tapper.protocols.fields import UNKNOWN_FIELDS, Fields
from tapper.protocols.frames import FrameReader, Handler
from tapper.protocols.grpc import Counter, is_grpc
from tapper.protocols.halves import Half, exchange
from tapper.protocols.messages import BODY_LIMIT, Request
from tapper.streams.reassembly import Data
from tapper.streams.sequence import MASK

MOST_STREAMS: Final = 1024
"""Open streams that are followed on one connection; then the oldest comes out as it is. Servers allow 100 to 250."""
_MOST_OVER: Final = 256


class Http2(Handler):
    """A connection. `client` is the side that opened it, where that is known; `in_step` tells of both sides whether
    they are read from their first byte; `body_limit` is how many bytes of a body are kept. The methods return the
    exchanges that became complete."""

    __slots__ = (
        "_ack",
        "_blocks",
        "_body_limit",
        "_cost",
        "_done",
        "_next",
        "_over",
        "_readers",
        "_seq",
        "_streams",
        "_ts",
        "client",
        "heads",
    )

    def __init__(self, client: int | None, in_step: tuple[bool, bool], body_limit: int = BODY_LIMIT) -> None:
        self.client = client
        """0 or 1; None until a header block told who asks and who answers."""
        self._readers = (FrameReader(0, in_step=in_step[0]), FrameReader(1, in_step=in_step[1]))
        self._blocks = (BlockReader(known=in_step[0]), BlockReader(known=in_step[1]))
        self._body_limit = body_limit
        self._streams: dict[int, list[Half | None]] = {}  # both halves, by side
        self._over: dict[int, None] = {}  # streams cut short, of which late frames may still come
        self._done: list[Exchange] = []  # and not yet returned
        self._cost = 0
        # Of the chunk being read, or of the last one, which is not kept. `next` is the sequence number behind it.
        self._ts = self._seq = self._ack = self._next = 0
        self.heads = 0
        """Messages seen so far; 0 means that nothing proved this connection to be HTTP/2."""

    @property
    def held(self) -> int:
        """Bytes kept, roughly."""
        (reader, other), (block, another) = self._readers, self._blocks  # asked for each packet: no loops
        return self._cost + reader.held + other.held + block.held + another.held

    def upgraded(self, request: Request) -> None:
        """The connection began with this HTTP/1 request (RFC 7540 section 3.2): it is stream 1's, and it is over."""
        head, end = request.head, request.end
        fields = Fields()
        fields.shown, fields.listed = head.headers, head.fields
        fields.headers = ((":method", head.method), (":path", head.target), *head.headers)
        fields.asks, fields.method, fields.path = True, head.method, head.target
        half = Half(head.ts, head.seq, head.ack)
        half.fields, half.head_size, half.trailers = fields, head.size, end.trailers
        half.body, half.kept, half.size, half.holed = end.body, len(end.body), end.size, end.truncated
        half.last_ts, half.last_seq, half.ended = end.ts, end.seq, True
        half.grpc = is_grpc(next((value for name, value in head.headers if name == "content-type"), None))
        assert self.client is not None, "whoever asks for an upgrade is the client"
        self._streams[1] = [None, half] if self.client else [half, None]
        self._cost += half.cost

    def data(self, side: int, chunk: Data) -> list[Exchange]:
        self._ts = chunk.ts
        self._seq = chunk.seq
        self._ack = chunk.ack
        self._next = (chunk.seq + len(chunk.data)) & MASK
        self._readers[side].feed(chunk.data, self)
        return self._taken() if self._done else []

    def gap(self, side: int, size: int | None) -> list[Exchange]:
        self._readers[side].gap(size, self)
        return self._taken()

    def end(self, side: int) -> list[Exchange]:
        """The side said FIN. Once the server did, what is unanswered stays so."""
        return self.finish() if side != self.client and self.client is not None else []

    def finish(self) -> list[Exchange]:
        """Nothing more will come: everything goes out as it is, in order."""
        for number in list(self._streams):
            self._conclude(number)
        return self._taken()

    def _taken(self) -> list[Exchange]:
        done, self._done = self._done, []
        return done

    # What the readers tell.

    def block(self, side: int, number: int, data: bytes | None, *, end: bool, promise: bool) -> None:
        blocks = self._blocks[side]
        if data is None:
            blocks.forget()
            fields = UNKNOWN_FIELDS
        else:
            fields = blocks.decode(data)  # also where nobody asks: it may change the table
        if promise or not number & 1 or number in self._over:
            return  # pushed, which hardly any client allows; or late
        status, asks = fields.status, fields.asks
        answers = status is not None
        if self.client is None and asks != answers:
            self.client = side if asks else 1 - side
        half = self._half(side, number)
        half.last_ts, half.last_seq = self._ts, self._next
        if half.fields is not None or (not asks and not answers and (fields.complete or half.size)):
            # Whatever comes second is trailers; so is a first block that is known to have no pseudo-header field, and
            # one behind a body, where the beginning was not seen.
            half.trailers = fields.headers
            half.complete = half.complete and fields.complete
        elif status is not None and len(status) == 3 and status[0] == "1" and not end:
            return  # interim: the final response follows, and began here
        else:
            self.heads += 1
            half.fields, half.complete = fields, fields.complete
            half.head_size = 0 if data is None else len(data)
            half.grpc = is_grpc(fields.content_type)
        half.cost += fields.octets
        self._cost += fields.octets
        if end:
            self._ended(number, half)

    def piece(self, side: int, number: int, data: bytes, *, end: bool) -> None:
        if not number & 1 or number in self._over:
            return
        half = self._half(side, number)
        half.last_ts, half.last_seq = self._ts, self._next
        half.size += len(data)
        if not half.holed:
            kept = half.keep(data, self._body_limit)
            half.cost += kept
            self._cost += kept
        counter = self._counter(number, half, len(data))
        if counter is not None:
            counter.feed(data)
        if end:
            self._ended(number, half)

    def hole(self, side: int, number: int, size: int, *, end: bool) -> None:
        if not number & 1 or number in self._over:
            return
        half = self._half(side, number)
        half.size += size
        half.holed = half.holed or size > 0
        counter = self._counter(number, half, size)
        if counter is not None and size:
            counter.lose()
        if end:
            self._ended(number, half)

    def reset(self, side: int, number: int) -> None:  # noqa: ARG002
        self._cut_short(number)

    def goaway(self, side: int, last: int) -> None:
        if self.client is not None and side != self.client:
            for number in [number for number in self._streams if number > last]:
                self._cut_short(number)

    def lost(self, side: int) -> None:
        self._blocks[side].forget()
        for stream in self._streams.values():
            half = stream[side]
            if half is not None and not half.ended:
                half.torn = half.holed = True
                if half.counter is not None:
                    half.counter.lose()

    def _half(self, side: int, number: int) -> Half:
        """This side's half of a stream, made when it is first needed."""
        stream = self._streams.get(number)
        half = None if stream is None else stream[side]
        if half is None:
            if stream is None and len(self._streams) >= MOST_STREAMS:
                self._cut_short(next(iter(self._streams)))
            half = Half(self._ts, self._seq, self._ack)
            self._cost += half.cost
            if stream is None:
                self._streams[number] = [None, half] if side else [half, None]
            else:
                stream[side] = half
        return half

    def _counter(self, number: int, half: Half, new: int) -> Counter | None:
        """What counts the half's messages, if it has any; `new` of its bytes are not counted yet."""
        counter = half.counter
        if counter is None:
            first, second = self._streams[number]
            if (first is not None and first.grpc) or (second is not None and second.grpc):
                counter = half.counter = Counter()
                if half.torn or half.size > new:
                    counter.lose()  # its beginning has gone by
        return counter

    def _ended(self, number: int, half: Half) -> None:
        half.ended = True
        if self.client is None:
            return
        stream = self._streams[number]
        request, response = stream[self.client], stream[1 - self.client]
        if response is not None and response.ended and (request is None or request.ended or request.torn):
            self._conclude(number)

    def _cut_short(self, number: int) -> None:
        """Reset, refused, or one too many: it goes out as it is."""
        if number in self._streams:
            self._conclude(number)

    def _conclude(self, number: int) -> None:
        first, second = self._streams.pop(number)
        if first is not None:
            self._cost -= first.cost
        if second is not None:
            self._cost -= second.cost
        if first is None or second is None or not (first.ended and second.ended):
            self._over[number] = None  # what still comes of it is passed over
            if len(self._over) > _MOST_OVER:
                del self._over[next(iter(self._over))]
        if self.client is None:
            return
        request, response = (second, first) if self.client else (first, second)
        if (request is not None and request.seen) or (response is not None and response.seen):
            self._done.append(exchange(request, response))
