"""One direction of an HTTP/1 connection, read passively: bytes in, events out (RFC 9112).

The contract. `feed(data, …)` is an iterator of events and must be run to its end; so are `gap` and `eof`. For every
message come one RequestHead or ResponseHead and later one End. Nothing raises, whatever the bytes are. Interim
responses (1xx except 101) belong to the final response that follows them and are not events.

How a response's body ends depends on the request it answers, which this direction has not seen. So after a ResponseHead
the caller says `answers(method)`, before it asks for the next event; without that the method counts as unknown.

What the reader knows is whether it is *in step*: whether the next byte is known to belong where the grammar says. It is
in step from a connection's first byte on. It falls out of step by bytes that are lost or malformed, says Lost, and then
waits for a segment that opens with a plausible start line: segments usually begin where somebody wrote a message.
A hole inside a body of known length costs only the body; the reader stays in step.

Most messages are whole in one segment that has nothing else in it. `whole` reads such a one at once, and says exactly
what `feed` would have said; it declines everything else, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tapper.protocols import heads
from tapper.protocols.fieldlist import UNFRAMED, FieldList
from tapper.protocols.messages import (
    BODY_LIMIT,
    HEAD_LIMIT,
    End,
    Event,
    Request,
    RequestHead,
    Response,
    ResponseHead,
)
from tapper.protocols.reader import Reader, State
from tapper.streams.reassembly import Data
from tapper.streams.sequence import MASK

_WITHOUT_BODY: Final = (204, 304)


class RequestReader(Reader):
    """Reads what a client sends."""

    __slots__ = ("_awaited",)

    def __init__(self, *, in_step: bool = True, head_limit: int = HEAD_LIMIT, body_limit: int = BODY_LIMIT) -> None:
        super().__init__(in_step=in_step, head_limit=head_limit, body_limit=body_limit)
        self._awaited: State = Reader._length_body  # how the body is read that may never come

    def whole(self, chunk: Data) -> Request | None:
        """A segment that is one request. None, and nothing done, where it is anything else."""
        data = chunk.data
        stop = self._section_at(data)
        fields = self._fields if stop else None
        if fields is None:
            return None
        parts = heads.request_line(data[: self._second - 1])
        if parts is None:
            return None
        body = data[stop:]
        size, framing = len(body), fields.framing
        if framing.coded or (framing.length or 0) != size or size > self._body_limit:
            return None
        method, target, version, plain = parts
        ts, seq = chunk.ts, chunk.seq
        return Request(
            RequestHead(ts, seq, chunk.ack, method, target, version, fields, stop, plain),
            End(ts, (seq + stop + size) & MASK, body, size, False, ()),
        )

    def refused(self) -> None:
        """A final response has come to the request whose body is awaited, and no 100 (Continue) before it. Its client
        may never send the body (RFC 9110 section 10.1.1), so what comes next may be another request."""
        if self._state in _BODY_BEGINS and not self._size and not self._partial:
            self._awaited, self._state = self._state, RequestReader._body_or_request

    def _body_or_request(self) -> Event | bool:
        if self._pos == len(self._data):
            return False
        if heads.begins_request(self._data[self._pos :]):
            return self._end()
        self._state = self._awaited
        return True

    def gap(self, size: int | None) -> Iterator[Event]:
        if self._state is RequestReader._body_or_request:
            self._state = self._awaited
        return super().gap(size)

    def _head(self, line: bytes, fields: FieldList, size: int) -> Event | bool:
        parts = heads.request_line(line)
        framing = fields.framing
        if parts is None or (framing.coded and not framing.chunked):
            return self._malformed("a malformed request")  # section 6.3: its length cannot be known
        self._remaining = framing.length or 0
        start = self._begun(Reader._chunk_line if framing.chunked else Reader._length_body)
        method, target, version, plain = parts
        return RequestHead(*start, method, target, version, fields, size, plain)

    def _begins(self, data: bytes) -> bool:
        return heads.begins_request(data)

    def _may_become(self, data: bytes) -> bool:
        return heads.may_become_request(data)


class ResponseReader(Reader):
    """Reads what a server sends."""

    __slots__ = (
        "_body_state",
        "_framing",
        "_interim",
        "_method",
        "_status",
        "continued",
    )

    def __init__(self, *, in_step: bool = True, head_limit: int = HEAD_LIMIT, body_limit: int = BODY_LIMIT) -> None:
        super().__init__(in_step=in_step, head_limit=head_limit, body_limit=body_limit)
        self._status = 0
        self._framing = UNFRAMED
        self._method: str | None = None
        self.continued = False
        """Whether a 100 (Continue) came before the last ResponseHead."""
        self._interim = False
        self._body_state: State = Reader._until_close

    def whole(self, chunk: Data) -> Response | None:
        """A segment that is one final response of known length. None, and nothing done, where it is anything else. Not
        to be asked where it may answer HEAD or CONNECT."""
        data = chunk.data
        stop = self._section_at(data)
        fields = self._fields if stop else None
        if fields is None:
            return None
        parts = heads.status_line(data[: self._second - 1])
        if parts is None:
            return None
        body = data[stop:]
        size, framing = len(body), fields.framing
        if framing.coded or framing.length != size or size > self._body_limit:
            return None
        version, status, reason = parts
        ts, seq = chunk.ts, chunk.seq
        if status < 200 or status in _WITHOUT_BODY:
            return None
        return Response(
            ResponseHead(ts, seq, chunk.ack, status, reason, version, fields, stop),
            End(ts, (seq + stop + size) & MASK, body, size, False, ()),
        )

    def answers(self, method: str | None) -> None:
        """The method of the request that the last ResponseHead answers; None where the request was not seen."""
        self._method = method

    def gap(self, size: int | None) -> Iterator[Event]:
        if self._state is ResponseReader._body_or_next:
            self._state = self._body_state
        return super().gap(size)

    def _head(self, line: bytes, fields: FieldList, size: int) -> Event | bool:
        parts = heads.status_line(line)
        if parts is None:
            return self._malformed("a malformed status line")
        version, status, reason = parts
        if status < 200 and status != 101:
            self._interim = self._interim or status == 100
            return True  # interim: the final response follows, and began here
        self._status, self._framing, self._method = status, fields.framing, None
        self.continued, self._interim = self._interim, False
        start = self._begun(ResponseReader._frame)
        return ResponseHead(*start, status, reason, version, fields, size)

    def _frame(self) -> Event | bool:
        """How the body ends, by RFC 9112 section 6.3, in its order. Entered after the caller said the method."""
        method, status, framing = self._method, self._status, self._framing
        if status == 101 or (method == "CONNECT" and 200 <= status < 300):
            end = self._end()
            self.stop()
            return end
        if method == "HEAD" or status in _WITHOUT_BODY:
            return self._end()
        if framing.chunked:
            self._body_state = Reader._chunk_line
        elif framing.coded or framing.length is None:
            self._body_state = Reader._until_close
        else:
            self._body_state = Reader._length_body
        self._remaining = framing.length or 0
        # A response to an unseen HEAD looks as if it had a body.
        doubtful = method is None and (framing.chunked or self._remaining > 0)
        self._state = ResponseReader._body_or_next if doubtful else self._body_state
        return True

    def _body_or_next(self) -> Event | bool:
        """Behind a head whose request is unknown: a segment that opens with a status line is no body."""
        if self._pos == len(self._data):
            return False
        if self._pos == 0 and heads.begins_response(self._data):
            return self._end()
        self._state = self._body_state
        return True

    def _begins(self, data: bytes) -> bool:
        return heads.begins_response(data)

    def _may_become(self, data: bytes) -> bool:
        return heads.may_become_response(data)


_BODY_BEGINS: Final = frozenset({Reader._length_body, Reader._chunk_line})
"""The states in which no byte of a request's body may have come."""
