"""Requests and responses of one connection become exchanges.

HTTP/1 answers in order, so pairing is first in, first out, as long as nothing was lost. To guess after a loss is to
show an answer to somebody else's question, and one wrong guess shifts all pairs behind it. TCP says more than the
order:

- A response cannot answer a request of which its sender had not received the first byte:  response.ack <= request.seq.
- Nor one that was sent when the response's first byte had already arrived:                response.seq < request.ack.
- Without pipelining a client sends when it has all that came before, and the next byte it gets begins the answer:
  response.seq == request.ack.

The first two are exact and always hold. After a loss, and where a connection was joined midway, only the third makes a
pair; and where requests were lost, only if a response came in between, which is theirs. Whatever finds no partner
comes out alone. The third rule tells nothing of a client that pipelines: once one has sent a request while another was
unanswered, nothing more is paired that a loss, or a beginning that was not seen, makes uncertain. (What remains is such
a client that was joined midway, with a request on its way that was not seen: until it shows that it pipelines, the
third rule can be met by chance.)

A response is read after everything that its sender had received (`tapper.streams.order`), so none comes before its
request here, whatever the order of the packets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tapper.protocols.grpc import Call
from tapper.protocols.http1 import RequestReader, ResponseReader
from tapper.protocols.messages import BODY_LIMIT, End, Event, Lost, Request, RequestHead, Response, ResponseHead
from tapper.runtime.native import mypyc_attr
from tapper.streams.reassembly import Data
from tapper.streams.sequence import HALF, MASK, after

MOST_UNANSWERED: Final = 256
"""Requests of one connection that may wait for an answer; nginx and Envoy close long before."""
_RECORD_COST: Final = 512  # what an unanswered request is counted for beyond its bytes


@mypyc_attr(acyclic=True)
@dataclass(slots=True)
class Exchange:
    """A request and its response; one of them may be None, for one that was not seen."""

    request: Request | None
    response: Response | None
    incomplete: str | None = None
    """Why fields are missing from the heads, in a few words; None where none are (HTTP/1: always)."""
    grpc: Call | None = None

    def __init__(
        self,
        request: Request | None,
        response: Response | None,
        incomplete: str | None = None,
        grpc: Call | None = None,
    ) -> None:
        self.request = request
        self.response = response
        self.incomplete = incomplete
        self.grpc = grpc

    @property
    def partial(self) -> bool:
        """Whether request, response, or fields of one are missing."""
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


@mypyc_attr(acyclic=True)
class _Entry:
    """A request on its way to its answer."""

    __slots__ = (
        "certain",
        "cost",
        "head",
        "pending",
        "queued",
        "request",
        "response",
        "usual",
    )

    def __init__(self, head: RequestHead, request: Request | None, *, certain: bool) -> None:
        self.head = head
        self.request = request
        """None until its end has come."""
        self.response: Response | None = None
        self.certain = certain
        """Whether nothing was lost between the request before and this one."""
        self.pending = True
        """Whether an answer may still come."""
        self.queued = True
        """Whether none has begun."""
        self.usual = head.method != "HEAD" and head.method != "CONNECT"  # noqa: PLR1714 - a set costs more
        """Whether the answer's body ends as it says itself (RFC 9112 section 6.3)."""
        self.cost = _RECORD_COST + head.size
        """What it is counted for while it is queued."""
        if request is not None:
            self.cost += len(request.end.body)


class Conversation:
    """Both directions of one connection. Every method returns the exchanges that became complete, in order."""

    __slots__ = (
        "_answered_to",
        "_answering",
        "_arriving",
        "_assumed",
        "_kept",
        "_last_ack",
        "_lost_to",
        "_owed",
        "_pipelines",
        "_requests",
        "_requests_lost",
        "_responses",
        "_responses_lost",
        "_server_from_start",
        "_server_next",
        "_unanswered",
        "_unheard",
        "given_away",
        "heads",
        "held",
    )

    def __init__(self, *, client_in_step: bool, server_in_step: bool, body_limit: int = BODY_LIMIT) -> None:
        self._requests = RequestReader(in_step=client_in_step, body_limit=body_limit)
        self._responses = ResponseReader(in_step=server_in_step, body_limit=body_limit)
        self._requests_lost = not client_in_step
        self._responses_lost = not server_in_step
        # Server's sequence numbers: of its first byte, where that is known, and after the last response with a partner.
        self._server_from_start = server_in_step
        self._answered_to: int | None = None
        self._unanswered: list[_Entry] = []  # mostly one: a deque would cost more
        self._arriving: _Entry | None = None  # the request whose end has not come
        self._answering: tuple[_Entry | None, ResponseHead] | None = None  # the response whose end has not come
        self._owed = 0  # the fewest responses that may be on their way
        self._unheard = True  # whether nothing of the server was read yet
        self._last_ack = -1  # of the last request: the number of the byte that its sender expected then
        self._server_next = 0  # the number after the server's last byte that was read or lost
        self._lost_to: int | None = None  # the number after the server's last byte that was lost
        self._pipelines = False  # whether the client has sent a request while another one was unanswered
        self._assumed = False  # whether the order of requests and responses is known by the third rule alone
        self._kept = 0  # by the readers
        self.held = 0
        """Bytes kept, roughly: by the readers, and those of the unanswered."""
        self.heads = 0
        """Message heads seen so far; 0 means that nothing proved this connection to be HTTP."""
        self.given_away = False
        """Whether an answer has said that what follows it is another protocol."""

    # The usual way: the segment is a message (`whole`). Everything else goes through the readers' `feed`.

    def from_client(self, chunk: Data) -> list[Exchange]:
        request = self._requests.whole(chunk)
        if request is None:
            return self._take_requests(self._requests.feed(chunk.data, chunk.ts, chunk.seq, chunk.ack))
        return self._enter(_Entry(request.head, request, certain=not self._requests_lost))

    def from_server(self, chunk: Data) -> list[Exchange]:
        self._unheard = False
        self._server_next = chunk.seq + len(chunk.data)
        if self._server_from_start:
            self._server_from_start = False
            self._answered_to = chunk.seq
        if self._unanswered and not self._responses_lost:
            first = self._unanswered[0]
            arrived = first.request is not None
            response = self._responses.whole(chunk) if arrived and first.certain and first.usual else None
            if response is not None:
                self.heads += 1
                self._owed = max(0, self._owed - 1)
                return self._answered(self._pop() if _possible(first.head, response.head) else None, response)
        return self._take_responses(self._responses.feed(chunk.data, chunk.ts, chunk.seq, chunk.ack))

    def client_gap(self, size: int | None) -> list[Exchange]:
        return self._take_requests(self._requests.gap(size))

    def server_gap(self, size: int | None) -> list[Exchange]:
        if size is not None:
            self._lost_to = self._server_next = (self._server_next + size) & MASK
        return self._take_responses(self._responses.gap(size))

    def client_end(self) -> list[Exchange]:
        return self._take_requests(self._requests.eof())

    def server_end(self) -> list[Exchange]:
        """The server said FIN: what is unanswered now will stay so."""
        return [*self._take_responses(self._responses.eof()), *self._give_up(len(self._unanswered))]

    def finish(self) -> list[Exchange]:
        """Nothing more will come, or nobody looks any longer: everything goes out as it is."""
        return [
            *self._take_requests(self._requests.eof(clean=False)),
            *self._take_responses(self._responses.eof(clean=False)),
            *self._give_up(len(self._unanswered)),
        ]

    def _take_requests(self, events: Iterable[Event]) -> list[Exchange]:
        done: list[Exchange] = []
        for event in events:
            if isinstance(event, RequestHead):
                self._arriving = _Entry(event, None, certain=not self._requests_lost)
                done += self._enter(self._arriving)
            elif isinstance(event, End):
                entry, self._arriving = self._arriving, None
                if entry is not None:
                    done += self._arrived(entry, event)
            elif isinstance(event, Lost):
                self._requests_lost = True
        self._weigh()
        return done

    def _weigh(self) -> None:
        kept = self._requests.held + self._responses.held
        self.held += kept - self._kept
        self._kept = kept

    def _enter(self, entry: _Entry) -> list[Exchange]:
        """A request has begun."""
        self.heads += 1
        self._requests_lost = False
        head = entry.head
        before, self._last_ack = self._last_ack, head.ack
        nothing_between = head.ack == before
        if not nothing_between and (self._unheard or self._has_lost_behind(before)):
            self._owed = 0  # the client has received what nobody here has seen
        if not self._pipelines and (self._owed > 0 or nothing_between):
            self._pipelines = True
            if self._assumed:
                self._responses_lost = True  # what the third rule told is not to be relied on any longer
        self._owed += 1
        self._unanswered.append(entry)
        self.held += entry.cost
        if len(self._unanswered) <= MOST_UNANSWERED:
            return []
        done = self._give_up(1)
        self._unanswered[0].certain = False
        return done

    def _has_lost_behind(self, number: int) -> bool:
        """Whether bytes of the server were lost that come after this number."""
        return self._lost_to is not None and after(self._lost_to, number)

    def _arrived(self, entry: _Entry, end: End) -> list[Exchange]:
        """A request is over."""
        entry.request = Request(entry.head, end)
        if entry.queued:
            entry.cost += len(end.body)
            self.held += len(end.body)
        return [] if entry.pending else [Exchange(entry.request, entry.response)]

    def _take_responses(self, events: Iterable[Event]) -> list[Exchange]:
        done: list[Exchange] = []
        for event in events:
            if isinstance(event, ResponseHead):
                self.heads += 1
                self._owed = max(0, self._owed - 1)
                entry, unanswered = self._match(event)
                done += unanswered
                self._answering = (entry, event)
                self._responses.answers(None if entry is None else entry.head.method)
                if entry is not None and entry is self._arriving and self._is_refused(entry.head):
                    self._requests.refused()
            elif isinstance(event, End):
                answering, self._answering = self._answering, None
                if answering is not None:
                    entry, head = answering
                    done += self._answered(entry, Response(head, event))
                    if ends_http1(entry, head):
                        self.given_away = True
                        done += self._take_requests(self._requests.eof(clean=False))
            elif isinstance(event, Lost):
                self._responses_lost = True
                self._owed = 0  # all of them may have been among the lost bytes
        self._weigh()
        return done

    def _is_refused(self, request: RequestHead) -> bool:
        """Whether the response that begins comes in place of the 100 (Continue) that its client waits for."""
        return not self._responses.continued and _expects_continue(request)

    def _answered(self, entry: _Entry | None, response: Response) -> list[Exchange]:
        """A response is over."""
        if entry is None:
            return [Exchange(None, response)]
        entry.pending, entry.response = False, response
        self._answered_to = response.end.seq
        return [] if entry.request is None else [Exchange(entry.request, response)]

    def _match(self, response: ResponseHead) -> tuple[_Entry | None, list[Exchange]]:
        """The request that this response answers, and those that now turn out to stay unanswered."""
        first = self._unanswered[0] if self._unanswered else None
        if first is None or (first.certain and not self._responses_lost):
            return (self._pop(), []) if first and _possible(first.head, response) else (None, [])
        if not self._pipelines:
            for index, entry in enumerate(self._unanswered):
                if self._follows(entry, response):
                    unanswered = self._give_up(index)
                    self._responses_lost, self._assumed = False, True
                    return self._pop(), unanswered
        return None, []

    def _follows(self, entry: _Entry, response: ResponseHead) -> bool:
        """Whether the response begins where the client of a request without pipelining expects its answer."""
        if entry.head.ack != response.seq or not _possible(entry.head, response):
            return False
        return entry.certain or response.seq != self._answered_to

    def _pop(self) -> _Entry:
        entry = self._unanswered.pop(0)
        entry.queued = False
        self.held -= entry.cost
        return entry

    def _give_up(self, count: int) -> list[Exchange]:
        """The oldest `count` requests get no answer."""
        done: list[Exchange] = []
        for _ in range(count):
            entry = self._pop()
            entry.pending = False
            if entry.request is not None:
                done.append(Exchange(entry.request, None))
        return done


def ends_http1(request: Request | _Entry | None, response: ResponseHead) -> bool:
    """Whether the connection belongs to another protocol after this response."""
    status = response.status
    return status == 101 or (request is not None and request.head.method == "CONNECT" and 200 <= status < 300)


def _expects_continue(request: RequestHead) -> bool:
    """Whether its client waits for a 100 (Continue) before it sends the body (RFC 9110 section 10.1.1)."""
    return any(name.lower() == "expect" and value.strip().lower() == "100-continue" for name, value in request.headers)


def _possible(request: RequestHead, response: ResponseHead) -> bool:
    """Whether the response can answer the request, by the two rules that always hold."""
    # `after`, twice: calls would cost as much again
    return 0 < ((response.ack - request.seq) & MASK) < HALF and not 0 < ((request.ack - response.seq) & MASK) < HALF
