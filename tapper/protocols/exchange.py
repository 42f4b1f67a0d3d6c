"""An HTTP exchange: a request and its response."""

from __future__ import annotations

from dataclasses import dataclass

from tapper.protocols.grpc import WEB, Call, web_call
from tapper.protocols.messages import Request, Response
from tapper.protocols.outcome import COMPLETE, ExchangeOutcome, joined
from tapper.runtime.native import mypyc_attr


def exchange_id(ts: int, seq: int, stream: int | None = None) -> str:
    """The id of an exchange: of the time and the sequence number of its first byte, and of its HTTP/2 stream."""
    return f"{ts:x}-{seq:x}" if stream is None else f"{ts:x}-{seq:x}-{stream:x}"


@mypyc_attr(acyclic=True)
@dataclass(slots=True)
class Exchange:
    """A request and its response. One of them is None if it was not seen."""

    request: Request | None
    response: Response | None
    incomplete: str | None = None
    """Why fields are missing from the heads, in a few words; None if none are missing (HTTP/1: always)."""
    grpc: Call | None = None
    outcome: ExchangeOutcome = COMPLETE
    pushed: bool = False
    """True if the server made up the request itself (RFC 9113 section 8.4)."""
    id: str = ""
    """That of the facts about it, if it went on for long (`tapper.protocols.streaming`) or opened a WebSocket."""

    def __init__(
        self,
        request: Request | None,
        response: Response | None,
        incomplete: str | None = None,
        grpc: Call | None = None,
        outcome: ExchangeOutcome = COMPLETE,
        pushed: bool = False,
        id: str = "",
    ) -> None:
        self.request = request
        self.response = response
        self.incomplete = incomplete
        self.grpc = grpc
        self.outcome = outcome
        self.pushed = pushed
        self.id = id

    @property
    def partial(self) -> bool:
        """True if the request, the response, or header fields are missing."""
        return self.request is None or self.response is None or self.incomplete is not None

    @property
    def ts(self) -> int:
        """Nanoseconds since 1970: the first byte of the request, or else of the response."""
        first = self.request or self.response
        assert first is not None, "an exchange of nothing"
        return first.head.ts

    @property
    def end(self) -> int:
        """Nanoseconds since 1970: the last byte of the response, or else of the request."""
        last = self.response or self.request
        assert last is not None, "an exchange of nothing"
        return last.end.ts

    @property
    def duration(self) -> int | None:
        """Nanoseconds from the request's first byte to the response's last."""
        if self.request is None or self.response is None:
            return None
        return self.response.end.ts - self.request.head.ts


def exchange_of(request: Request | None, response: Response | None, missing: ExchangeOutcome) -> Exchange:
    """An exchange of HTTP/1. `missing` is the outcome of a message that is None."""
    asked = missing if request is None else request.end.outcome
    answered = missing if response is None else response.end.outcome
    outcome = COMPLETE if asked is COMPLETE and answered is COMPLETE else joined(asked, answered)
    if response is not None and response.head.fields.has_prefix("content-type", WEB):
        return Exchange(request, response, grpc=web_call(request, response), outcome=outcome)
    return Exchange(request, response, outcome=outcome)
