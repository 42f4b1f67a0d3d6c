"""What each side sent on a stream of HTTP/2 so far, and what both make together: an exchange, perhaps a gRPC call."""

from __future__ import annotations

from typing import Final

from tapper.protocols.blocks import UNREADABLE_BLOCK, DecodedBlock
from tapper.protocols.exchange import Exchange
from tapper.protocols.grpc import NO_MESSAGES, Call, Counter, Messages, call
from tapper.protocols.headers import Headers
from tapper.protocols.messages import End, Request, RequestHead, Response, ResponseHead
from tapper.runtime.memo import Memo
from tapper.runtime.native import mypyc_attr

TABLE_UNKNOWN: Final = "header table unknown"
BLOCK_UNSEEN: Final = "header block not seen"

_RECORD_COST: Final = 512  # what a half is counted for beyond its bytes
_VERSION: Final = "HTTP/2"
_NOTHING: Final[Headers] = ()


@mypyc_attr(acyclic=True)
class Half:
    """What one side sent on one stream, so far."""

    # Defaults, not a constructor's arguments: few are ever other than these.
    fields: DecodedBlock | None = None
    """None until its header block came."""
    complete: bool = True
    grpc: bool = False
    """Whether the fields say so."""
    head_size: int = 0
    body: bytes = b""
    """The first piece of what is kept, mostly all of it."""
    more: list[bytes] | None = None
    kept: int = 0
    size: int = 0
    holed: bool = False
    torn: bool = False
    """Frames of this side were lost while it was open: it may have ended unseen."""
    trailers: Headers = ()
    counter: Counter | None = None
    last_seq: int = 0
    ended: bool = False
    cost: int = _RECORD_COST

    def __init__(self, ts: int, seq: int, ack: int) -> None:
        self.ts = self.last_ts = ts
        self.seq = seq
        self.ack = ack

    @property
    def seen(self) -> bool:
        """Whether there is anything to show."""
        return self.fields is not None or self.size > 0

    @property
    def missing(self) -> str | None:
        if self.fields is None:
            return BLOCK_UNSEEN
        return None if self.complete else TABLE_UNKNOWN

    def keep(self, data: bytes, limit: int) -> int:
        """A piece of the body came; returns how much of it was kept."""
        room = limit - self.kept
        if room <= 0:
            return 0
        if len(data) > room:
            data = data[:room]
        if not self.kept:
            self.body = data
        elif self.more is None:
            self.more = [data]
        else:
            self.more.append(data)
        self.kept += len(data)
        return len(data)

    def end(self) -> End:
        body = self.body if self.more is None else b"".join([self.body, *self.more])
        truncated = self.holed or not self.ended or self.size > self.kept
        return End(self.last_ts, self.last_seq, body, self.size, truncated, self.trailers)


def exchange(request: Half | None, response: Half | None) -> Exchange:
    missing = None if request is None else request.missing
    if missing is None and response is not None:
        missing = response.missing
    return Exchange(
        None if request is None else _request(request),
        None if response is None else _response(response),
        missing,
        _call(request, response),
    )


def _request(half: Half) -> Request:
    fields = UNREADABLE_BLOCK if half.fields is None else half.fields
    method, target = fields.method or "", fields.path or ""
    if method == "CONNECT" and not target:
        target = fields.authority or ""  # RFC 9113 section 8.5: it has no path
    ts, seq, ack, size = half.ts, half.seq, half.ack, half.head_size
    return Request(RequestHead(ts, seq, ack, method, target, _VERSION, fields.shown, size), half.end())


def _response(half: Half) -> Response:
    fields = UNREADABLE_BLOCK if half.fields is None else half.fields
    number = 0 if fields.status is None else _STATUSES[fields.status]
    ts, seq, ack, size = half.ts, half.seq, half.ack, half.head_size
    return Response(ResponseHead(ts, seq, ack, number, "", _VERSION, fields.shown, size), half.end())


def _status(status: str) -> int:
    return int(status) if len(status) == 3 and status.isascii() and status.isdigit() else 0


_STATUSES: Final[Memo[str, int]] = Memo(_status, len)


def _says_status(half: Half | None) -> bool:
    """Whether its trailers end a call."""
    if half is not None:
        for name, _ in half.trailers:
            if name == "grpc-status":
                return True
    return False


def _call(request: Half | None, response: Half | None) -> Call | None:
    asks, answers = request is not None and request.grpc, response is not None and response.grpc
    if not (asks or answers or _says_status(request) or _says_status(response)):
        return None
    target, fields, trailers = "", _NOTHING, _NOTHING
    if request is not None and request.fields is not None:
        target = request.fields.path or ""
    if response is not None:
        trailers = response.trailers
        if response.fields is not None:
            fields = response.fields.shown.headers
    return call(target, fields, trailers, _messages(request), _messages(response))


def _messages(half: Half | None) -> Messages:
    return NO_MESSAGES if half is None or half.counter is None else half.counter.messages()
