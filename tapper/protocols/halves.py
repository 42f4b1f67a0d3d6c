"""The two halves of an HTTP/2 stream, request and response, and the exchange that they make."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tapper.protocols.blocks import UNREADABLE_BLOCK, DecodedBlock
from tapper.protocols.exchange import Exchange
from tapper.protocols.grpc import NO_MESSAGES, WEB, Call, MessageReader, Messages, call, web_call
from tapper.protocols.headers import Headers
from tapper.protocols.messages import End, Request, RequestHead, Response, ResponseHead
from tapper.protocols.outcome import (
    COMPLETE,
    LONGEST_LINE,
    LOST,
    UNPARSABLE,
    ExchangeOutcome,
    MalformedPart,
    joined,
)
from tapper.runtime.native import mypyc_attr

TABLE_UNKNOWN: Final = "header table unknown"
BLOCK_UNSEEN: Final = "header block not seen"

_RECORD_COST: Final = 700  # bytes that a half counts for, besides those that it has
_VERSION: Final = "HTTP/2"
_NO_HEADERS: Final[Headers] = ()


@mypyc_attr(acyclic=True)
class Half:
    """What one side has sent on one stream so far."""

    __slots__ = (
        "ack",
        "body",
        "complete",
        "cost",
        "ended",
        "fields",
        "flaw",
        "grpc",
        "head_size",
        "holed",
        "last_seq",
        "last_ts",
        "messages",
        "seq",
        "size",
        "torn",
        "trailers",
        "ts",
    )

    def __init__(self, ts: int, seq: int, ack: int) -> None:
        # The first byte, and the last one.
        self.ts = self.last_ts = ts
        self.seq = seq
        self.ack = ack
        self.last_seq = 0
        # The header block and the trailers.
        self.fields: DecodedBlock | None = None
        """None until the header block has come."""
        self.complete = True
        """False if fields are missing."""
        self.flaw = ""
        """Why a block of it has fields that were left out; empty if there is no such block."""
        self.grpc = False
        """True if the fields are those of a gRPC call."""
        self.head_size = 0
        self.trailers: Headers = ()
        # The body.
        self.body = bytearray()
        """Its beginning, at most the body limit."""
        self.size = 0
        """Octets of the body; lost ones are included if their number is known."""
        self.holed = False
        """True if octets of the body were lost."""
        self.torn = False
        """True if frames of this side were lost while the half was open: it may have ended unseen."""
        self.messages: MessageReader | None = None
        """Counts the messages of a gRPC call."""
        self.ended = False
        self.cost = _RECORD_COST
        """Bytes that it counts for, roughly."""

    @property
    def seen(self) -> bool:
        """True if there is anything to show."""
        return self.fields is not None or self.size > 0

    @property
    def missing(self) -> str | None:
        """Why fields are missing; None if none are."""
        if self.fields is None:
            return BLOCK_UNSEEN
        return None if self.complete else self.flaw or TABLE_UNKNOWN

    @property
    def is_grpc_web(self) -> bool:
        return self.fields is not None and (self.fields.content_type or "").startswith(WEB)

    def keep(self, data: bytes, limit: int) -> int:
        """Keep a piece of the body, up to the limit; returns how many bytes of it were kept."""
        room = limit - len(self.body)
        if room <= 0:
            return 0
        if len(data) > room:
            data = data[:room]
        self.body += data
        return len(data)

    def end(self, message: str, unfinished: ExchangeOutcome) -> End:
        """The end of the `request` or `response`; `unfinished` is its outcome if its end has not come."""
        truncated = self.holed or not self.ended or self.size > len(self.body)
        outcome = COMPLETE
        if not self.ended and not self.torn:
            outcome = unfinished
        elif self.flaw:
            outcome = UNPARSABLE
        elif self.holed or not self.ended:
            outcome = LOST
        if self.flaw:
            fields = self.fields or UNREADABLE_BLOCK
            line = None if fields.method is None else f"{fields.method} {fields.path or '?'} {_VERSION}"[:LONGEST_LINE]
            outcome = replace(outcome, malformed=(MalformedPart(message, self.flaw, line, is_start=True),))
        return End(self.last_ts, self.last_seq, bytes(self.body), self.size, truncated, self.trailers, outcome)


def exchange(request: Half | None, response: Half | None, unfinished: ExchangeOutcome) -> Exchange:
    """The exchange of a stream. A half of which nothing was seen is None. `unfinished` is the outcome of a half whose
    end has not come."""
    missing = None if request is None else request.missing
    if missing is None and response is not None:
        missing = response.missing
    asked = None if request is None else Request(request_head(request), request.end("request", unfinished))
    answered = None if response is None else Response(response_head(response), response.end("response", unfinished))
    outcome = joined(
        LOST if asked is None else asked.end.outcome, unfinished if answered is None else answered.end.outcome
    )
    if answered is not None and response is not None and response.is_grpc_web:
        return Exchange(asked, answered, missing, web_call(asked, answered), outcome)
    return Exchange(asked, answered, missing, _call(request, response), outcome)


def request_head(half: Half) -> RequestHead:
    fields = half.fields or UNREADABLE_BLOCK
    method, target = fields.method or "", fields.path or ""
    if method == "CONNECT" and not target:
        target = fields.authority or ""  # it has no path (RFC 9113 section 8.5)
    return RequestHead(half.ts, half.seq, half.ack, method, target, _VERSION, fields.shown, half.head_size)


def response_head(half: Half) -> ResponseHead:
    fields = half.fields or UNREADABLE_BLOCK
    text = fields.status or ""
    status = int(text) if len(text) == 3 and text.isascii() and text.isdigit() else 0
    return ResponseHead(half.ts, half.seq, half.ack, status, "", _VERSION, fields.shown, half.head_size)


def _call(request: Half | None, response: Half | None) -> Call | None:
    """The gRPC call, if the fields of a half say so, or its trailers have the status of one."""
    if not (_is_of_call(request) or _is_of_call(response)):
        return None
    target, fields, trailers = "", _NO_HEADERS, _NO_HEADERS
    if request is not None and request.fields is not None:
        target = request.fields.path or ""
    if response is not None:
        trailers = response.trailers
        if response.fields is not None:
            fields = response.fields.shown.headers
    return call(target, fields, trailers, _messages(request), _messages(response))


def _is_of_call(half: Half | None) -> bool:
    if half is None or half.grpc:
        return half is not None
    for name, _ in half.trailers:  # noqa: SIM110 - mypyc compiles a loop, and makes a generator of `any`
        if name == "grpc-status":
            return True
    return False


def _messages(half: Half | None) -> Messages:
    return NO_MESSAGES if half is None or half.messages is None else half.messages.messages()
