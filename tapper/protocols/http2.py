"""Both directions of a cleartext HTTP/2 connection become exchanges, one for each stream (RFC 9113).

A stream has a number, so pairing needs neither order nor guess: the two halves of a stream are the frames that its two
sides sent on it. The first of these events ends a stream, and what was seen of its halves comes out as an exchange:

    event                                                         which stream
    the response ended, and the request ended                     that stream
    the response ended, and no request was seen, or a loss may    that stream
      have hidden the request's end
    a RST_STREAM frame of either side                             that stream
    a GOAWAY frame of the server                                  all streams above the frame's last stream
    a new stream while MOST_STREAMS are open                      the oldest open stream
    the server's FIN, or the end of the connection                all open streams, in the order in which they began

A promised request (PUSH_PROMISE) and its response make an exchange that is marked as pushed. The final response to an
extended CONNECT for a WebSocket (RFC 8441) ends its exchange, as 101 does in HTTP/1; the stream's DATA is read as
WebSocket frames from then on.

Loss costs dynamic tables (`tapper.protocols.blocks`): fields that refer to unknown entries are left out, and the
exchange says that it is incomplete. Its method, target or status stays empty if that is one of these fields.
"""

from __future__ import annotations

from typing import ClassVar, Final

from tapper.protocols.blocks import BlockDecoder, DecodedBlock, decoded
from tapper.protocols.connection_reader import Content
from tapper.protocols.exchange import exchange_id
from tapper.protocols.facts import StreamBegin
from tapper.protocols.frames import FrameReader, Handler
from tapper.protocols.grpc import MessageReader, is_grpc
from tapper.protocols.halves import Half, exchange, request_head, response_head
from tapper.protocols.headers import FIELD_COST, content_encoding
from tapper.protocols.messages import BODY_LIMIT, Request
from tapper.protocols.outcome import (
    CLIENT,
    COMPLETE,
    LOST,
    OPEN,
    SERVER,
    ExchangeOutcome,
    OutcomeKind,
    error_name,
    role,
)
from tapper.protocols.streaming import AFTER_NS, Followed, part_reader
from tapper.protocols.websocket import WebSocket
from tapper.streams.bounds import Pace
from tapper.streams.reassembly import Data
from tapper.streams.sequence import MASK

MOST_STREAMS: Final = 1024
"""Open streams that are followed on one connection. Servers allow 100 to 250."""
COST: Final = 1_400
"""Bytes of memory that HTTP/2's readers take more than those of HTTP/1 (`tapper.streams.bounds.CONNECTION_COST`)."""
_TABLE_PRICE: Final = 4
"""Bytes of memory for each octet of a dynamic table, as RFC 7541 counts it."""
_LAST_STREAM: Final = 1 << 31
_MOST_CUT_SHORT: Final = 256
# Error codes (section 7).
_NO_ERROR: Final = 0
_CANCEL: Final = 8


class _Stream:
    """An open stream."""

    __slots__ = ("followed", "halves", "is_missed")

    def __init__(self) -> None:
        self.halves: list[Half | None] = [None, None]
        """By side."""
        self.followed: Followed | None = None
        """None unless its exchange goes on for long."""
        self.is_missed = False
        """True if frames of a side of which nothing was seen may have been lost."""


class Http2(Handler):
    """Reads a connection to its end. `client` is the side that opened it, None if unknown. `in_step` tells for each
    side whether it is read from its first byte. `body_limit` is how many bytes of a body are kept. `pace` bounds what
    is told of exchanges while they go on; None: nothing is."""

    FRAMES: ClassVar[type[FrameReader]] = FrameReader
    BLOCKS: ClassVar[type[BlockDecoder]] = BlockDecoder

    def __init__(
        self, client: int | None, in_step: tuple[bool, bool], body_limit: int = BODY_LIMIT, pace: Pace | None = None
    ) -> None:
        super().__init__(client)
        self._readers = (self.FRAMES(0, in_step=in_step[0]), self.FRAMES(1, in_step=in_step[1]))
        self._decoders = (self.BLOCKS(from_start=in_step[0]), self.BLOCKS(from_start=in_step[1]))
        self._body_limit = body_limit
        self._pace = pace
        self._streams: dict[int, _Stream] = {}  # the open ones
        self._cut_short: dict[int, None] = {}  # closed ones of which late frames may still come, to be ignored
        self._websockets: dict[int, WebSocket] = {}  # the open ones, by stream
        self._done: list[Content] = []  # complete, and not yet returned
        self._cost = 0  # of all halves
        self._last_answered = _LAST_STREAM  # the highest stream that the server may answer, by its GOAWAY frames
        self._cut_off: ExchangeOutcome | None = None  # of streams that the first FIN, or an error of GOAWAY, cuts off
        # Of the chunk that is being read; `next` is the sequence number after it.
        self._ts = self._seq = self._ack = self._next = 0
        self.heads = 0
        """Messages seen so far. While it is 0, nothing proves that the connection is HTTP/2."""

    @property
    def held(self) -> int:
        """Bytes of memory, roughly. Called for each packet."""
        (reader, other_reader), (decoder, other_decoder) = self._readers, self._decoders
        sockets = sum([socket.held for socket in self._websockets.values()]) if self._websockets else 0
        tables = (decoder.held + decoder.cached + other_decoder.held + other_decoder.cached) * _TABLE_PRICE
        return COST + self._cost + reader.held + other_reader.held + tables + sockets

    def upgraded(self, request: Request) -> None:
        """The connection began with this HTTP/1.1 request, which is over: it is stream 1's (RFC 7540 section 3.2)."""
        assert self.client is not None, "the sender of the request is the client"
        head, end = request.head, request.end
        half = Half(head.ts, head.seq, head.ack)
        half.fields = decoded(((":method", head.method), (":path", head.target), *head.headers))
        half.head_size, half.trailers, half.grpc = head.size, end.trailers, is_grpc(half.fields.content_type)
        half.body += end.body
        half.size, half.holed = end.size, end.truncated
        half.last_ts, half.last_seq, half.ended = end.ts, end.seq, True
        stream = self._streams[1] = _Stream()
        stream.halves[self.client] = half
        self._cost += half.cost

    def data(self, side: int, chunk: Data) -> list[Content]:
        """The next bytes of a side."""
        self._ts, self._seq, self._ack = chunk.ts, chunk.seq, chunk.ack
        self._next = (chunk.seq + len(chunk.data)) & MASK
        self._readers[side].feed(chunk.data, self)
        return self._take_done()

    def gap(self, side: int, size: int | None) -> list[Content]:
        """`size` bytes of a side are lost; None where nobody knows how many."""
        self._readers[side].gap(size, self)
        return self._take_done()

    def pass_time(self, now: int) -> list[Content]:
        """Begin to follow the exchanges that have gone on for long by `now`, in nanoseconds since 1970."""
        for number, stream in self._streams.items():
            if stream.followed is None:
                self._follow(number, stream, now)
        return self._take_done()

    def end(self, side: int) -> list[Content]:
        """The side sent FIN. After the server's, no request gets an answer."""
        if self._cut_off is None:
            self._cut_off = ExchangeOutcome(OutcomeKind.TIMEOUT, role(side, self.client))
        return self.finish(self._cut_off) if side != self.client and self.client is not None else []

    def finish(self, unfinished: ExchangeOutcome = OPEN) -> list[Content]:
        """Nothing more will come. `unfinished` is the outcome of streams that have not ended."""
        if self._cut_off is not None and self._cut_off.code is not None and unfinished.kind is not OutcomeKind.OPEN:
            unfinished = self._cut_off
        for number in list(self._streams):
            self._conclude(number, unfinished)
        for number in list(self._websockets):
            self._close_websocket(number)
        return self._take_done()

    def _take_done(self) -> list[Content]:
        if not self._done:
            return []
        done, self._done = self._done, []
        return done

    # The methods of a Handler.

    def on_block(self, side: int, stream: int, block: bytes, *, end: bool, promise: bool, is_cut: bool = False) -> None:
        # 1. Decode every block, since each may change the dynamic table. Ignore closed streams, and responses to
        #    promises that were not seen.
        fields = self._decoders[side].decode(block, is_cut=is_cut)
        if promise:
            self._promise(side, stream, fields, len(block))
            return
        if self._is_ignored(stream):
            self._to_websocket(side, stream, b"", 0, end=end)
            return
        # 2. The pseudo-header fields tell which side is the client.
        is_response = fields.status is not None
        if self.client is None and fields.is_request != is_response:
            self.client = side if fields.is_request else 1 - side
        half = self._half(side, stream)
        half.last_ts, half.last_seq = self._ts, self._next
        # 3. A block is trailers if it is the half's second one. Where the first one was lost, it is trailers if it is
        #    known to have no pseudo-header field, or if a body came before it.
        has_pseudo = fields.is_request or is_response
        if half.fields is not None or (not has_pseudo and (fields.complete or half.size)):
            half.trailers = fields.headers
            half.complete = half.complete and fields.complete
        # 4. An interim response (1xx) is passed over: the final one follows.
        elif fields.status is not None and len(fields.status) == 3 and fields.status[0] == "1" and not end:
            return
        # 5. Any other block is the head of the message.
        else:
            self.heads += 1
            half.fields, half.complete = fields, fields.complete
            half.head_size = len(block)
            half.grpc = is_grpc(fields.content_type)
        half.flaw = half.flaw or fields.flaw
        cost = fields.octets + len(fields.headers) * FIELD_COST
        half.cost += cost
        self._cost += cost
        if end:
            self._end_half(stream, half)
        elif is_response and self.client is not None:
            self._open_websocket(stream)

    def on_data(self, side: int, stream: int, data: bytes, *, end: bool, lost: int = 0) -> None:
        if self._is_ignored(stream):
            self._to_websocket(side, stream, data, lost, end=end)
            return
        # 1. Keep it.
        half = self._half(side, stream)
        half.last_ts, half.last_seq = self._ts, self._next
        half.size += len(data) + lost
        if lost:
            half.holed = True
        elif not half.holed:
            kept = half.keep(data, self._body_limit)
            half.cost += kept
            self._cost += kept
        # 2. Count and tell the messages in it.
        opened = self._streams[stream]
        messages, followed = self._messages(opened, half, len(data) + lost), opened.followed
        if lost:
            self._lose_place(side, half, followed)
        if messages is not None:
            messages.feed(data)
        if followed is not None:
            self._cost -= followed.held
            self._done += followed.feed(role(side, self.client) or "", data, self._ts)
            self._cost += followed.held
        elif self._ts - half.ts >= AFTER_NS:
            self._follow(stream, opened, self._ts)
        # 3. It may be the last one.
        if end:
            self._end_half(stream, half)

    def on_reset(self, side: int, stream: int, code: int) -> None:
        if stream in self._websockets:
            self._close_websocket(stream)
        if stream not in self._streams:
            return
        by, kind, half = role(side, self.client), OutcomeKind.RST_STREAM, self._streams[stream].halves[side]
        if code == _CANCEL:
            kind = OutcomeKind.CANCELLED
        elif code == _NO_ERROR and by == SERVER and half is not None and half.ended:
            kind = OutcomeKind.COMPLETE  # a server that has answered may so refuse the rest of a request (section 8.1)
        self._conclude(stream, ExchangeOutcome(kind, by, error_name(code)))

    def on_goaway(self, side: int, last: int, code: int) -> None:
        outcome = ExchangeOutcome(OutcomeKind.GOAWAY, role(side, self.client), error_name(code))
        if code != _NO_ERROR:
            self._cut_off = outcome
        if self.client is not None and side != self.client and last < self._last_answered:
            self._last_answered = last  # it never increases (RFC 9113 section 6.8), so a repetition changes nothing
            for number in [number for number in self._streams if number > last and number & 1]:
                self._conclude(number, outcome)

    def on_out_of_step(self, side: int) -> None:
        self._decoders[side].forget()
        for socket in self._websockets.values():
            self._done += socket.gap(side, None)
        for stream in self._streams.values():
            half = stream.halves[side]
            if half is None:
                stream.is_missed = True
            elif not half.ended:
                half.torn = half.holed = True
                self._lose_place(side, half, stream.followed)

    def _lose_place(self, side: int, half: Half, followed: Followed | None) -> None:
        """Bytes of a half's body are missing: nobody knows where its next message begins."""
        if half.messages is not None:
            half.messages.lose()
        if followed is not None:
            self._cost -= followed.held
            followed.lose(role(side, self.client) or "")
            self._cost += followed.held

    def _is_ignored(self, stream: int) -> bool:
        """Whether frames of the stream make no exchange: it was cut short, it is pushed (an even number) and its
        promise was not seen, or it is a WebSocket."""
        is_unpromised = not stream & 1 and stream not in self._streams
        return is_unpromised or stream in self._cut_short or stream in self._websockets

    def _half(self, side: int, number: int) -> Half:
        """This side's half of a stream, made when it is first needed."""
        stream = self._streams.get(number)
        if stream is None:
            if len(self._streams) >= MOST_STREAMS:
                self._conclude(next(iter(self._streams)), OPEN)
            stream = self._streams[number] = _Stream()
        half = stream.halves[side]
        if half is None:
            half = stream.halves[side] = Half(self._ts, self._seq, self._ack)
            self._cost += half.cost
        return half

    def _both(self, stream: _Stream) -> tuple[Half | None, Half | None]:
        """The request and the response, once the client is known."""
        first, second = stream.halves
        return (second, first) if self.client else (first, second)

    def _follow(self, number: int, stream: _Stream, now: int) -> None:
        """Tell what has come of a stream that goes on for long: its response has begun, or a client streams gRPC
        messages."""
        request, response = self._both(stream)
        if self.client is None or self._pace is None or request is None or request.fields is None:
            return
        if response is None or response.fields is None:
            if request.ended or not request.grpc:
                return
            response = None
        first = request if response is None else response
        fields = first.fields
        if now - first.ts < AFTER_NS or fields is None:
            return
        # 1. Its beginning.
        identity = exchange_id(request.ts, request.seq, number)
        head = None if response is None else response_head(response)
        self._done.append(StreamBegin(identity, request_head(request), head))
        # 2. What has come of the bodies that are read: of gRPC and of tunnels both, else the response's.
        coding = None if head is None else content_encoding(head.headers)
        readers = {SERVER: part_reader(fields.content_type, identity, SERVER, coding)}
        if request.grpc or request.fields.method == "CONNECT":
            readers[CLIENT] = part_reader(fields.content_type, identity, CLIENT)
        followed = stream.followed = Followed(identity, readers, self._pace)
        for sender, half in ((CLIENT, request), (SERVER, response)):
            if half is not None and (half.holed or half.size > len(half.body)):
                followed.lose(sender)
            elif half is not None:
                self._done += followed.feed(sender, bytes(half.body), half.last_ts)
        self._cost += followed.held

    def _promise(self, side: int, stream: int, fields: DecodedBlock, size: int) -> None:
        """A server promises the response to a request that it has made up itself (RFC 9113 section 8.4)."""
        if stream & 1 or stream in self._streams or self.client not in (None, 1 - side):
            return
        self.client = 1 - side
        self.heads += 1
        half = self._half(self.client, stream)
        half.fields, half.complete, half.flaw, half.head_size = fields, fields.complete, fields.flaw, size
        half.last_ts, half.last_seq, half.ended = self._ts, self._next, True
        half.cost += fields.octets
        self._cost += fields.octets

    def _open_websocket(self, stream: int) -> None:
        """A response head has come: it may accept a WebSocket (RFC 8441 section 5)."""
        assert self.client is not None, "a response tells which side is the client"
        request, response = self._both(self._streams[stream])
        if request is None or response is None or request.fields is None or response.fields is None:
            return
        if request.fields.method != "CONNECT" or (":protocol", "websocket") not in request.fields.headers:
            return
        if (response.fields.status or "")[:1] != "2":
            return
        # 1. The exchange is complete without bodies. Bytes that the client did not wait with are the WebSocket's.
        early, is_whole = bytes(request.body), not request.holed and request.size == len(request.body)
        request.body.clear()
        request.size, request.holed, request.ended, response.ended = 0, False, True, True
        identity = exchange_id(request.ts, request.seq, stream)
        self._conclude(stream, COMPLETE, identity)
        # 2. The stream is a WebSocket from now on.
        if len(self._websockets) >= MOST_STREAMS:
            self._close_websocket(next(iter(self._websockets)))
        socket = WebSocket(self.client, response.fields.headers, self._ts, self._body_limit, identity)
        self._websockets[stream] = socket
        if early:
            self._done += socket.data(self.client, Data(early, request.last_ts, 0, 0))
        if not is_whole:
            self._done += socket.gap(self.client, None)

    def _to_websocket(self, side: int, stream: int, data: bytes, lost: int, *, end: bool) -> None:
        """A frame of an ignored stream has been read. If the stream is a WebSocket, it reads on."""
        socket = self._websockets.get(stream)
        if socket is None:
            return
        if lost:
            self._done += socket.gap(side, lost)
        self._done += socket.data(side, Data(data, self._ts, self._seq, self._ack))
        if end:
            self._done += socket.end(side)
            if socket.is_over:
                self._close_websocket(stream)

    def _close_websocket(self, stream: int) -> None:
        self._done += self._websockets.pop(stream).finish()
        self._ignore(stream)

    def _ignore(self, stream: int) -> None:
        """Late frames of a closed stream make no exchange."""
        self._cut_short[stream] = None
        if len(self._cut_short) > _MOST_CUT_SHORT:
            del self._cut_short[next(iter(self._cut_short))]

    def _messages(self, stream: _Stream, half: Half, new: int) -> MessageReader | None:
        """The reader of the half's gRPC messages, None if it has none; `new` of its bytes are not read yet."""
        if half.messages is None:
            first, second = stream.halves
            if (first is not None and first.grpc) or (second is not None and second.grpc):
                half.messages = MessageReader()
                if half.torn or half.size > new:
                    half.messages.lose()  # its beginning has gone by
        return half.messages

    def _end_half(self, number: int, half: Half) -> None:
        half.ended = True
        if self.client is not None:
            request, response = self._both(self._streams[number])
            if response is not None and response.ended and (request is None or request.ended or request.torn):
                self._conclude(number, LOST)

    def _conclude(self, number: int, unfinished: ExchangeOutcome, identity: str = "") -> None:
        """Close the stream; what was seen of it comes out as an exchange. `unfinished` is the outcome of a half whose
        end has not come, `identity` the exchange's id if other facts will have it."""
        stream = self._streams.pop(number)
        if stream.is_missed and unfinished.kind in (OutcomeKind.OPEN, OutcomeKind.TIMEOUT):
            unfinished = LOST
        first, second = stream.halves
        self._cost -= (first.cost if first is not None else 0) + (second.cost if second is not None else 0)
        if first is None or second is None or not (first.ended and second.ended):
            self._ignore(number)
        followed = stream.followed
        if followed is not None:
            self._cost -= followed.held
            identity = followed.id
        if self.client is not None:
            request, response = self._both(stream)
            if (request is not None and request.seen) or (response is not None and response.seen):
                concluded = exchange(request, response, unfinished)
                concluded.pushed = not number & 1
                concluded.id = identity
                self._done.append(concluded)
