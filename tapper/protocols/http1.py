"""One direction of an HTTP/1 connection, read without taking part in it: bytes in, events out (RFC 9112).

The contract of RequestReader and ResponseReader:

1. `feed`, `gap` and `eof` are iterators of events. Their caller runs them to their end. They never raise, whatever the
   bytes are.
2. Each message gives one RequestHead or ResponseHead, and later one End. An interim response (1xx except 101) is not an
   event: it belongs to the final response that follows it. A head that cannot be read gives both events, too: the
   method is empty, or the status 0, and the End tells why. A head that a lenient reader can read is read, and its End
   tells what is malformed.
3. How a response's body ends depends on the request, which the other direction has. So after a ResponseHead the caller
   calls `answers(method)`, before it asks for the next event. If it does not, the method counts as unknown.
4. A reader is *in step* if the grammar tells what the next byte is. It is so from a connection's first byte on. Bytes
   that are lost or malformed end that: the reader says Lost and waits for a segment that opens with a start line, since
   programs usually write a message at once. A hole in a body of known length is no such loss: only bytes of the body
   are missing.
"""

from __future__ import annotations

from typing import ClassVar, Final

from tapper.protocols import heads
from tapper.protocols.headers import HeaderList
from tapper.protocols.heads import NO_BODY, Framing
from tapper.protocols.http1_reader import (
    BODY,
    CHUNK_LINE,
    MAYBE_BODY,
    UNREADABLE_START,
    UNTIL_CLOSE,
    Reader,
    Step,
)
from tapper.protocols.messages import BODY_LIMIT, HEAD_LIMIT, RequestHead, ResponseHead

WITHOUT_BODY: Final = (204, 304)
"""Statuses of responses that never have a body (section 6.3)."""

MALFORMED_START: Final = "a malformed start line"
CONTRADICTION: Final = "Content-Length is no number, or has several values"


class RequestReader(Reader):
    """Reads what a client sends."""

    MESSAGE: ClassVar[str] = "request"
    __slots__ = ("_framing",)

    def __init__(self, *, in_step: bool = True, head_limit: int = HEAD_LIMIT, body_limit: int = BODY_LIMIT) -> None:
        super().__init__(in_step=in_step, head_limit=head_limit, body_limit=body_limit)
        self._framing = NO_BODY

    def refused(self) -> None:
        """A final response has come to the request whose body is awaited, without a 100 (Continue) before it. The
        client may never send the body (RFC 9110 section 10.1.1), so another request may come next."""
        if self._state in (BODY, CHUNK_LINE) and not self._size and not self._partial:
            self._awaited, self._state = self._state, MAYBE_BODY

    def _begin(self, line: bytes, fields: HeaderList, framing: Framing | None, size: int) -> Step:
        parts = heads.request_line(line)
        if parts is None:
            parts = heads.lenient_request_line(line)
            if parts is None:
                return self._malformed(UNREADABLE_START, line)
            self._note(MALFORMED_START, line.decode("latin-1"), is_start=True)
        if framing is None:
            self._note(CONTRADICTION, line.decode("latin-1"), is_start=True)
        elif framing.coded and not framing.chunked:
            # Section 6.3: the end of such a body is not known.
            self._note("a transfer coding that does not end with chunked", line.decode("latin-1"), is_start=True)
            framing = None
        self._framing = framing or NO_BODY
        return RequestHead(*self._opened(is_framed=framing is not None), *parts, fields, size)

    def _unreadable(self, line: bytes) -> Step:
        self._note(UNREADABLE_START, line.decode("latin-1"), is_start=True)
        return RequestHead(*self._opened(is_framed=False), "", "", "HTTP/1.1", HeaderList(), 0)

    def _is_start_line(self, line: bytes) -> bool:
        return heads.lenient_request_line(line) is not None

    def _choose_framing(self) -> Step:
        self._remaining = self._framing.length or 0
        self._state = CHUNK_LINE if self._framing.chunked else BODY
        return True

    def _begins(self, data: bytes) -> bool:
        return heads.begins_request(data)

    def _may_become(self, data: bytes) -> bool:
        return heads.may_become_request(data)


class ResponseReader(Reader):
    """Reads what a server sends."""

    MESSAGE: ClassVar[str] = "response"
    __slots__ = ("_answered_to", "_framing", "_interim", "_method", "_status", "continued")

    def __init__(self, *, in_step: bool = True, head_limit: int = HEAD_LIMIT, body_limit: int = BODY_LIMIT) -> None:
        super().__init__(in_step=in_step, head_limit=head_limit, body_limit=body_limit)
        self._status = 0
        self._framing = NO_BODY
        self._method: str | None = None
        self._interim = False
        self._answered_to = 0  # the acknowledgement number of the last head
        self.continued = False
        """True if a 100 (Continue) came before the last ResponseHead."""

    def answers(self, method: str | None) -> None:
        """The method of the request that the last ResponseHead answers; None if the request was not seen."""
        self._method = method

    def _begin(self, line: bytes, fields: HeaderList, framing: Framing | None, size: int) -> Step:
        parts = heads.status_line(line)
        if parts is None:
            parts = heads.lenient_status_line(line)
            if parts is None:
                return self._malformed(UNREADABLE_START, line)
            self._note(MALFORMED_START, line.decode("latin-1"), is_start=True)
        version, status, reason = parts
        if status < 200 and status != 101:
            self._interim = self._interim or status == 100
            return True  # the final response follows, and began here
        if framing is None:
            self._note(CONTRADICTION, line.decode("latin-1"), is_start=True)
        self._status, self._framing, self._method = status, framing or NO_BODY, None
        self.continued, self._interim = self._interim, False
        return ResponseHead(*self._opened(is_framed=framing is not None), status, reason, version, fields, size)

    def _unreadable(self, line: bytes) -> Step:
        self._note(UNREADABLE_START, line.decode("latin-1"), is_start=True)
        self._status, self._framing, self._method, self._interim = 0, NO_BODY, None, False
        return ResponseHead(*self._opened(is_framed=False), 0, "", "HTTP/1.1", HeaderList(), 0)

    def _is_start_line(self, line: bytes) -> bool:
        return heads.lenient_status_line(line) is not None

    def _choose_framing(self) -> Step:
        method, status, framing = self._method, self._status, self._framing
        # The rules of section 6.3, in their order.
        if status == 101 or (method == "CONNECT" and 200 <= status < 300):
            end = self._end()
            self.stop()
            return end
        if method == "HEAD" or status in WITHOUT_BODY:
            return self._end()
        if framing.chunked:
            self._state = CHUNK_LINE
        elif framing.coded or framing.length is None:
            self._state = UNTIL_CLOSE
        else:
            self._state = BODY
        self._remaining = framing.length or 0
        # The response to a HEAD that was not seen has the fields of a response with a body.
        if method is None and (framing.chunked or self._remaining > 0):
            self._awaited, self._state, self._answered_to = self._state, MAYBE_BODY, self._ack
        return True

    def _may_lack_body(self) -> bool:
        # Another response has another acknowledgement number: the server has received another request.
        return self._ack != self._answered_to

    def _begins(self, data: bytes) -> bool:
        return heads.begins_response(data)

    def _may_become(self, data: bytes) -> bool:
        return heads.may_become_response(data)
