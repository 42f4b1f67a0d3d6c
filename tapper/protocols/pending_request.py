"""A request that waits for its response, and which responses it may get."""

from __future__ import annotations

from typing import Final

from tapper.protocols.messages import Request, RequestHead, Response, ResponseHead
from tapper.protocols.outcome import LOST
from tapper.runtime.native import mypyc_attr
from tapper.streams.sequence import after

_RECORD_COST: Final = 512  # bytes that an unanswered request counts for, besides those that it has


@mypyc_attr(acyclic=True)
class PendingRequest:
    """A request and its answer, from the request's head on until both have come."""

    __slots__ = ("certain", "cost", "head", "is_queued", "may_be_answered", "request", "response", "unanswered")

    def __init__(self, head: RequestHead, *, certain: bool) -> None:
        self.head = head
        self.request: Request | None = None
        """None until the request's end has come."""
        self.response: Response | None = None
        self.certain = certain
        """True if nothing was lost between the request before and this one."""
        self.may_be_answered = True
        self.unanswered = LOST
        """The outcome if no answer is expected any longer."""
        self.is_queued = True
        """True until an answer begins, or none is expected any longer."""
        self.cost = _RECORD_COST + head.cost
        """Bytes that it counts for while it is queued."""


def ends_http1(request: Request | PendingRequest | None, response: ResponseHead) -> bool:
    """True if another protocol follows this response (RFC 9110 sections 7.8 and 9.3.6)."""
    status = response.status
    return status == 101 or (request is not None and request.head.method == "CONNECT" and 200 <= status < 300)


def is_possible(request: RequestHead, response: ResponseHead) -> bool:
    """True if the response can answer the request by rules 1 and 2, modulo 2**32."""
    return after(response.ack, request.seq) and not after(request.ack, response.seq)


def expects_continue(request: RequestHead) -> bool:
    """True if the client waits for a 100 (Continue) before it sends the body (RFC 9110 section 10.1.1)."""
    return any(name.lower() == "expect" and value.strip().lower() == "100-continue" for name, value in request.headers)
