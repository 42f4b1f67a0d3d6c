"""Messages that are complete in one segment, read at once.

Replaces `tapper.protocols.conversation.Conversation` and its readers. Most messages are such. FastConversation asks its
readers for a whole message first: `whole` returns exactly the events of `feed`, or None without any effect. The readers
compare header sections with patterns (`tapper.fast.patterns`), and look at start lines without a regular expression.
Without this module and the patterns, to read a capture file of requests with 13 fields takes twice as long.
"""

from __future__ import annotations

from typing import Final

from tapper.fast.patterns import HeadCache
from tapper.protocols import heads
from tapper.protocols.conversation import Conversation
from tapper.protocols.exchange import Exchange
from tapper.protocols.headers import HeaderList
from tapper.protocols.heads import Framing
from tapper.protocols.http1 import WITHOUT_BODY, RequestReader, ResponseReader
from tapper.protocols.http1_reader import HEAD
from tapper.protocols.messages import BODY_LIMIT, HEAD_LIMIT, End, Request, RequestHead, Response, ResponseHead
from tapper.protocols.pending_request import PendingRequest, is_possible
from tapper.runtime.memo import Memo
from tapper.streams.reassembly import Data
from tapper.streams.sequence import MASK

_METHODS: Final = {method.encode(): method for method in heads.METHODS}
_USUAL_END: Final = b" HTTP/1.1\r"
_STATUS_LINES: Final[Memo[bytes, tuple[str, int, str] | None]] = Memo(heads.status_line, len)
"""A service has few."""


def request_line(line: bytes) -> tuple[str, str, str] | None:
    """As `tapper.protocols.heads.request_line`, faster for well-known methods and for targets of printable ASCII."""
    method: str | None = "GET"
    start = 4
    if line[:start] != b"GET ":
        word = line.partition(b" ")[0]
        method, start = _METHODS.get(word), len(word) + 1
    stop = len(line) - len(_USUAL_END)
    if method is not None and start < stop and line[stop:] == _USUAL_END:
        target = line[start:stop].decode("latin-1")
        if target.isascii() and target.isprintable() and " " not in target:
            return method, target, "HTTP/1.1"
    return heads.request_line(line)


class FastRequestReader(RequestReader):
    """Gives the events of RequestReader."""

    __slots__ = ("_cache",)

    def __init__(self, *, in_step: bool = True, head_limit: int = HEAD_LIMIT, body_limit: int = BODY_LIMIT) -> None:
        super().__init__(in_step=in_step, head_limit=head_limit, body_limit=body_limit)
        self._cache = HeadCache(head_limit)

    def whole(self, chunk: Data) -> Request | None:
        """The request that this segment consists of; None if the segment is anything else."""
        if self._start is not None or self._state != HEAD:
            return None
        data = chunk.data
        fields = self._cache.find(data)
        if fields is None:
            return None
        second = self._cache.second_line
        parts = request_line(data[: second - 1])
        if parts is None:
            return None
        stop = second + fields.size
        body = data[stop:]
        size, framing = len(body), fields.framing
        if framing.coded or (framing.length or 0) != size or size > self._body_limit:
            return None
        method, target, version = parts
        ts, seq = chunk.ts, chunk.seq
        return Request(
            RequestHead(ts, seq, chunk.ack, method, target, version, fields, stop),
            End(ts, (seq + stop + size) & MASK, body, size, False, ()),
        )

    def _section(self, block: bytes) -> tuple[HeaderList, Framing] | None:
        fields = self._cache.section(block)
        return None if fields is None else (fields, fields.framing)


class FastResponseReader(ResponseReader):
    """Gives the events of ResponseReader."""

    __slots__ = ("_cache",)

    def __init__(self, *, in_step: bool = True, head_limit: int = HEAD_LIMIT, body_limit: int = BODY_LIMIT) -> None:
        super().__init__(in_step=in_step, head_limit=head_limit, body_limit=body_limit)
        self._cache = HeadCache(head_limit)

    def whole(self, chunk: Data) -> Response | None:
        """The final response that this segment consists of; None if the segment is anything else.

        Not to be called if the response may answer HEAD or CONNECT: those tell how its body ends.
        """
        if self._start is not None or self._state != HEAD:
            return None
        data = chunk.data
        fields = self._cache.find(data)
        if fields is None:
            return None
        second = self._cache.second_line
        parts = _STATUS_LINES[data[: second - 1]]
        if parts is None:
            return None
        stop = second + fields.size
        body = data[stop:]
        size, framing = len(body), fields.framing
        if framing.coded or framing.length != size or size > self._body_limit:
            return None
        version, status, reason = parts
        if status < 200 or status in WITHOUT_BODY:
            return None
        ts, seq = chunk.ts, chunk.seq
        return Response(
            ResponseHead(ts, seq, chunk.ack, status, reason, version, fields, stop),
            End(ts, (seq + stop + size) & MASK, body, size, False, ()),
        )

    def _section(self, block: bytes) -> tuple[HeaderList, Framing] | None:
        fields = self._cache.section(block)
        return None if fields is None else (fields, fields.framing)


class FastConversation(Conversation):
    """Gives the exchanges of Conversation."""

    __slots__ = ("_whole_requests", "_whole_responses")

    def _make_readers(self, client_in_step: bool, server_in_step: bool, body_limit: int) -> None:
        self._requests = self._whole_requests = FastRequestReader(in_step=client_in_step, body_limit=body_limit)
        self._responses = self._whole_responses = FastResponseReader(in_step=server_in_step, body_limit=body_limit)

    def from_client(self, chunk: Data) -> list[Exchange]:
        request = self._whole_requests.whole(chunk)
        if request is None or self._assumed_order is not None:
            return super().from_client(chunk)
        pending = PendingRequest(request.head, certain=not self._requests_lost)
        pending.request = request
        pending.cost += len(request.end.body)
        return self._enter(pending)

    def from_server(self, chunk: Data) -> list[Exchange]:
        self._note_server_data(chunk)
        if self._queue and not self._responses_lost and self._assumed_order is None:
            oldest = self._queue[0]
            if oldest.request is not None and oldest.certain and oldest.head.method not in ("HEAD", "CONNECT"):
                response = self._whole_responses.whole(chunk)
                if response is not None:
                    self.heads += 1
                    self._owed = max(0, self._owed - 1)
                    is_its_answer = is_possible(oldest.head, response.head)
                    return self._complete_response(self._leave_queue() if is_its_answer else None, response)
        return self._read_server(chunk)
