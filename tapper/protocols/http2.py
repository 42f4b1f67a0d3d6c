"""Both directions of a cleartext HTTP/2 connection become exchanges (RFC 9113), one for each stream.

Streams carry numbers, so pairing needs no order and no guess: what both sides send on one stream belongs together. What
loss costs is the header tables (`tapper.protocols.blocks`). Fields that refer to entries nobody here has seen are left
out and the exchange says that it is incomplete; a method, target or status among them stays empty.

An exchange is over when both sides have ended their half. After a loss a half may have ended unseen; then the other's
end suffices for the response, and for a request whose response was lost, the end of the connection.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tapper.protocols import frames
from tapper.protocols.blocks import UNKNOWN_FIELDS, BlockReader, Fields
from tapper.protocols.exchange import Exchange
from tapper.protocols.frames import Block, FrameReader, Goaway, Piece, Reset
from tapper.protocols.grpc import NO_MESSAGES, Call, Counter, call, is_grpc
from tapper.protocols.heads import Headers
from tapper.protocols.messages import BODY_LIMIT, End, Lost, Request, RequestHead, Response, ResponseHead
from tapper.streams.reassembly import Data
from tapper.streams.sequence import MASK

MOST_STREAMS = 1024
"""Open streams that are followed on one connection; then the oldest comes out as it is. Servers allow 100 to 250."""
_MOST_OVER = 256
_RECORD_COST = 512  # what a half of a stream is counted for beyond its bytes
_VERSION = "HTTP/2"
_REQUEST_FIELDS = frozenset({":method", ":path", ":scheme", ":authority"})

TABLE_UNKNOWN = "header table unknown"
BLOCK_UNSEEN = "header block not seen"


@dataclass(slots=True)
class _Half:
    """What one side sent on one stream, so far."""

    ts: int
    seq: int
    ack: int
    fields: Fields | None = None
    """None until its header block came."""
    complete: bool = True
    grpc: bool = False
    """Whether the fields say so."""
    head_size: int = 0
    body: bytearray = field(default_factory=bytearray)
    size: int = 0
    holed: bool = False
    torn: bool = False
    """Frames of this side were lost while it was open: it may have ended unseen."""
    trailers: Headers = ()
    counter: Counter | None = None
    last_ts: int = 0
    last_seq: int = 0
    ended: bool = False
    cost: int = _RECORD_COST

    def pseudo(self, name: str) -> str:
        return "" if self.fields is None else self.fields.pseudo.get(name, "")

    @property
    def missing(self) -> str | None:
        if self.fields is None:
            return BLOCK_UNSEEN
        return None if self.complete else TABLE_UNKNOWN

    @property
    def shown(self) -> Headers:
        return () if self.fields is None else self.fields.shown

    def end(self) -> End:
        truncated = self.holed or not self.ended or self.size > len(self.body)
        return End(self.last_ts, self.last_seq, bytes(self.body), self.size, truncated, self.trailers)


_Stream = list[_Half | None]  # by side


class Http2:
    """A connection. `client` is the side that opened it, where that is known; `in_step` tells of both sides whether
    they are read from their first byte; `body_limit` is how many bytes of a body are kept. The methods return the
    exchanges that became complete."""

    def __init__(self, client: int | None, in_step: tuple[bool, bool], body_limit: int = BODY_LIMIT) -> None:
        self.client = client
        """0 or 1; None until a header block told who asks and who answers."""
        self._readers = (FrameReader(in_step=in_step[0]), FrameReader(in_step=in_step[1]))
        self._blocks = (BlockReader(known=in_step[0]), BlockReader(known=in_step[1]))
        self._body_limit = body_limit
        self._streams: dict[int, _Stream] = {}
        self._over: dict[int, None] = {}  # streams cut short, of which late frames may still come
        self._cost = 0
        self._at = (0, 0, 0)  # ts, seq and ack of the chunk being read, or of the last one
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
        pseudo = {":method": head.method, ":path": head.target}
        headers = (*pseudo.items(), *head.headers)
        fields = Fields(headers, complete=True, pseudo=pseudo, shown=head.headers, size=head.size)
        half = _Half(head.ts, head.seq, head.ack, fields, head_size=head.size, body=bytearray(end.body), size=end.size)
        half.trailers, half.last_ts, half.last_seq, half.ended = end.trailers, end.ts, end.seq, True
        half.holed, half.grpc = end.truncated, is_grpc(head.headers)
        assert self.client is not None, "whoever asks for an upgrade is the client"
        self._keep(1, self.client, half)

    def data(self, side: int, chunk: Data) -> list[Exchange]:
        self._at = (chunk.ts, chunk.seq, chunk.ack)
        return self._handle(side, self._readers[side].feed(chunk.data), chunk)

    def gap(self, side: int, size: int | None) -> list[Exchange]:
        return self._handle(side, self._readers[side].gap(size), None)

    def end(self, side: int) -> list[Exchange]:
        """The side said FIN. Once the server did, what is unanswered stays so."""
        return self.finish() if side != self.client and self.client is not None else []

    def finish(self) -> list[Exchange]:
        """Nothing more will come: everything goes out as it is, in order."""
        return [exchange for stream in list(self._streams) for exchange in self._conclude(stream)]

    def _handle(self, side: int, events: Iterable[frames.Event], chunk: Data | None) -> list[Exchange]:
        done: list[Exchange] = []
        for event in events:
            if isinstance(event, Piece):
                done += self._body(side, event, chunk)
            elif isinstance(event, Block):
                done += self._block(side, event, chunk)
            elif isinstance(event, Reset):
                done += self._cut_short(event.stream)
            elif isinstance(event, Goaway):
                if self.client is not None and side != self.client:
                    for stream in [number for number in self._streams if number > event.last]:
                        done += self._cut_short(stream)
            elif isinstance(event, Lost):
                self._lost(side)
        return done

    def _block(self, side: int, block: Block, chunk: Data | None) -> list[Exchange]:
        blocks = self._blocks[side]
        if block.data is None:
            blocks.forget()
            fields = UNKNOWN_FIELDS
        else:
            fields = blocks.decode(block.data)  # also where nobody asks: it may change the table
        if block.promise or not block.stream & 1 or block.stream in self._over:
            return []  # pushed, which hardly any client allows; or late
        status = fields.pseudo.get(":status")
        asks, answers = not _REQUEST_FIELDS.isdisjoint(fields.pseudo), status is not None
        if self.client is None and asks != answers:
            self.client = side if asks else 1 - side
        done, half = self._half(side, block.stream, chunk)
        if half.fields is None and status and len(status) == 3 and status[0] == "1" and not block.end:
            return done  # interim: the final response follows, and began here
        # Whatever comes second is trailers; so is a first block that is known to have no pseudo-header field, and one
        # behind a body, where the beginning was not seen.
        if half.fields is not None or (not asks and not answers and (fields.complete or half.size)):
            half.trailers = fields.headers
            half.complete &= fields.complete
        else:
            self.heads += 1
            half.fields, half.complete, half.head_size = fields, fields.complete, len(block.data or b"")
            half.grpc = is_grpc(fields.shown)
        half.cost += fields.size
        self._cost += fields.size
        return done + self._ended(block.stream, half, end=block.end)

    def _body(self, side: int, piece: Piece, chunk: Data | None) -> list[Exchange]:
        if not piece.stream & 1 or piece.stream in self._over:
            return []
        done, half = self._half(side, piece.stream, chunk)
        half.size += len(piece.data) + piece.lost
        half.holed |= piece.lost > 0
        room = self._body_limit - len(half.body)
        if room > 0 and not half.holed:
            kept = piece.data[:room]
            half.body += kept
            half.cost += len(kept)
            self._cost += len(kept)
        self._count(self._streams[piece.stream], half, piece)
        return done + self._ended(piece.stream, half, end=piece.end)

    def _count(self, stream: _Stream, half: _Half, piece: Piece) -> None:
        if half.counter is None and any(each.grpc for each in stream if each):
            half.counter = Counter()
            if half.torn or half.size > len(piece.data) + piece.lost:
                half.counter.lose()  # its beginning has gone by
        if half.counter is not None:
            if piece.lost:
                half.counter.lose()
            half.counter.feed(piece.data)

    def _half(self, side: int, number: int, chunk: Data | None) -> tuple[list[Exchange], _Half]:
        """This side's half of a stream, made when it is first needed."""
        done: list[Exchange] = []
        stream = self._streams.get(number)
        half = None if stream is None else stream[side]
        if half is None:
            if stream is None and len(self._streams) >= MOST_STREAMS:
                done = self._cut_short(next(iter(self._streams)))
            half = _Half(*self._at)
            half.last_ts = half.ts
            self._keep(number, side, half)
        if chunk is not None:
            half.last_ts, half.last_seq = chunk.ts, (chunk.seq + len(chunk.data)) & MASK
        return done, half

    def _keep(self, number: int, side: int, half: _Half) -> None:
        self._streams.setdefault(number, [None, None])[side] = half
        self._cost += half.cost

    def _ended(self, number: int, half: _Half, *, end: bool) -> list[Exchange]:
        if not end:
            return []
        half.ended = True
        if self.client is None:
            return []
        stream = self._streams[number]
        request, response = stream[self.client], stream[1 - self.client]
        over = response is not None and response.ended and (request is None or request.ended or request.torn)
        return self._conclude(number) if over else []

    def _lost(self, side: int) -> None:
        self._blocks[side].forget()
        for stream in self._streams.values():
            half = stream[side]
            if half is not None and not half.ended:
                half.torn = half.holed = True
                if half.counter is not None:
                    half.counter.lose()

    def _cut_short(self, number: int) -> list[Exchange]:
        """Reset, refused, or one too many: it goes out as it is."""
        return self._conclude(number) if number in self._streams else []

    def _conclude(self, number: int) -> list[Exchange]:
        stream = self._streams.pop(number)
        self._cost -= sum(half.cost for half in stream if half)
        if not all(half and half.ended for half in stream):
            self._over[number] = None  # what still comes of it is passed over
            if len(self._over) > _MOST_OVER:
                del self._over[next(iter(self._over))]
        if self.client is None or not any(half and (half.fields is not None or half.size) for half in stream):
            return []
        request, response = stream[self.client], stream[1 - self.client]
        missing = [half.missing for half in (request, response) if half and half.missing]
        return [
            Exchange(
                None if request is None else _request(request),
                None if response is None else _response(response),
                incomplete=missing[0] if missing else None,
                grpc=_call(request, response),
            )
        ]


def _request(half: _Half) -> Request:
    method, target = half.pseudo(":method"), half.pseudo(":path")
    if method == "CONNECT" and not target:
        target = half.pseudo(":authority")  # RFC 9113 section 8.5: it has no path
    start = (half.ts, half.seq, half.ack)
    return Request(RequestHead(*start, method, target, _VERSION, half.shown, half.head_size), half.end())


def _response(half: _Half) -> Response:
    status = half.pseudo(":status")
    number = int(status) if len(status) == 3 and status.isascii() and status.isdigit() else 0
    start = (half.ts, half.seq, half.ack)
    return Response(ResponseHead(*start, number, "", _VERSION, half.shown, half.head_size), half.end())


def _call(request: _Half | None, response: _Half | None) -> Call | None:
    halves = [half for half in (request, response) if half]
    if not any(half.grpc or any(name == "grpc-status" for name, _ in half.trailers) for half in halves):
        return None
    counts = [half.counter.messages() if half and half.counter else NO_MESSAGES for half in (request, response)]
    answer = () if response is None else (*response.shown, *response.trailers)
    return call("" if request is None else request.pseudo(":path"), answer, counts[0], counts[1])
