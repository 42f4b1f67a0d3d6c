"""Pairs the requests and the responses of one HTTP/1 connection: each pair is an exchange.

A server answers in the order of the requests. So while nothing is lost, the oldest request gets the next response.
After a loss, to pair by order is to guess, and one wrong guess shifts all later pairs. TCP's numbers tell more:

1. A server has received the first byte of a request before it answers it:         request.seq < response.ack
2. A client sends a request before it receives the first byte of the response:     request.ack <= response.seq
3. A client without pipelining sends a request after it has received all earlier
   responses, so the next byte that it expects is the first one of the response:   request.ack == response.seq

Rules 1 and 2 hold always, and every pair obeys them. Rule 3 alone makes pairs after a loss, and on a connection that
was joined midway. After lost requests it does so only if a response came in between, which is the answer to them. A
message without a partner is an exchange of its own.

Rule 3 is of no use for a client that pipelines, so it is not used again once a client has sent a request while another
was unanswered. A client may also pipeline unseen. So the order of pairs that rule 3 made, and of all after them, is
assumed, and they are kept back until it is proven or disproven (`tapper.protocols.assumed_order`). If it is disproven,
each of their messages is an exchange of its own.

`tapper.streams.order` delays a response until all data that its sender had acknowledged was read. So a request comes
here before its response, whatever the order of the packets.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tapper.protocols.assumed_order import AssumedOrder
from tapper.protocols.exchange import Exchange, exchange_id, exchange_of
from tapper.protocols.facts import Fact, StreamBegin
from tapper.protocols.headers import content_encoding
from tapper.protocols.http1 import RequestReader, ResponseReader
from tapper.protocols.messages import BODY_LIMIT, End, Event, Lost, Request, RequestHead, Response, ResponseHead
from tapper.protocols.outcome import CLIENT, LOST, OPEN, SERVER, ExchangeOutcome, OutcomeKind
from tapper.protocols.pending_request import PendingRequest, ends_http1, expects_continue, is_possible
from tapper.protocols.streaming import AFTER_NS, Followed, part_reader
from tapper.streams.bounds import Pace
from tapper.streams.reassembly import Data
from tapper.streams.sequence import MASK, after

MOST_UNANSWERED: Final = 256
"""Requests of one connection that may wait for an answer. nginx and Envoy close a connection long before."""
_HEADS_OF_A_WAITING_CLIENT: Final = 16
"""A client that has waited for the answers in so many messages is not expected to pipeline. After a loss, the order of
its messages is not doubted."""
_CONTENT_TYPE: Final = "content-type"


class Conversation:
    """Both directions of one connection. Every method returns the exchanges that became complete, in order."""

    __slots__ = (
        "_answered_to",
        "_answering",
        "_arriving",
        "_assumed_order",
        "_first_end",
        "_followed",
        "_is_server_unread",
        "_kept",
        "_last_ack",
        "_lost_to",
        "_owed",
        "_pace",
        "_pipelines",
        "_queue",
        "_requests",
        "_requests_lost",
        "_responses",
        "_responses_lost",
        "_responses_missed",
        "_server_from_start",
        "_server_next",
        "facts",
        "given_away",
        "heads",
        "held",
    )

    def __init__(
        self,
        *,
        client_in_step: bool,
        server_in_step: bool,
        body_limit: int = BODY_LIMIT,
        pace: Pace | None = None,
    ) -> None:
        """`pace` bounds what is told of exchanges while they go on; None: nothing is."""
        self._pace = pace
        self._requests: RequestReader
        self._responses: ResponseReader
        self._make_readers(client_in_step, server_in_step, body_limit)
        # The requests without an answer, the oldest first; and the two messages whose end has not come.
        self._queue: list[PendingRequest] = []
        self._arriving: PendingRequest | None = None
        self._answering: tuple[PendingRequest | None, ResponseHead] | None = None
        self._followed: Followed | None = None  # the exchange of that response, if it goes on for long
        self.facts: list[Fact] = []
        """Facts about an exchange that goes on. Whoever takes them empties the list."""
        # Losses.
        self._requests_lost = not client_in_step
        self._responses_lost = not server_in_step
        self._responses_missed = False  # True if lost bytes may be the answers to the requests that wait
        self._assumed_order: AssumedOrder | None = None  # since rule 3 alone has made a pair, until it is proven
        self._first_end: ExchangeOutcome | None = None  # of an exchange that the first FIN cuts off
        # Sequence numbers of the server.
        self._server_from_start = server_in_step  # True until the first byte, if that was seen
        self._answered_to: int | None = None  # after the last response that has a request
        self._server_next = 0  # after the last byte that was read or lost
        self._lost_to: int | None = None  # after the last byte that was lost
        # Pipelining.
        self._pipelines = False  # True once the client has sent a request while another was unanswered
        self._owed = 0  # the least number of responses that the client waits for
        self._is_server_unread = True
        self._last_ack = -1  # of the last request
        # Bytes.
        self._kept = 0  # by the readers
        self.held = 0
        """Bytes kept, roughly: by the readers, and in the queue."""
        self.heads = 0
        """Heads of messages so far. 0: nothing has proven that this connection is HTTP."""
        self.given_away = False
        """True if a response has said that another protocol follows it."""

    def _make_readers(self, client_in_step: bool, server_in_step: bool, body_limit: int) -> None:
        self._requests = RequestReader(in_step=client_in_step, body_limit=body_limit)
        self._responses = ResponseReader(in_step=server_in_step, body_limit=body_limit)

    def from_client(self, chunk: Data) -> list[Exchange]:
        proven = self.prove(chunk.ts)
        return proven + self._take_requests(self._requests.feed(chunk.data, chunk.ts, chunk.seq, chunk.ack))

    def from_server(self, chunk: Data) -> list[Exchange]:
        self._note_server_data(chunk)
        return self._read_server(chunk)

    def _read_server(self, chunk: Data) -> list[Exchange]:
        if self._queue and not self._pipelines and self._queue[0].head.ack == chunk.seq:
            self._responses.try_start(chunk.data)  # rule 3 names the first byte of a response
        done = self._take_responses(self._responses.feed(chunk.data, chunk.ts, chunk.seq, chunk.ack))
        if self._answering is not None:
            self.pass_time(chunk.ts)
        return done

    def pass_time(self, now: int) -> None:
        """Add to `facts` what has come by now, in nanoseconds since 1970, of a response that goes on."""
        if self._answering is None or self._pace is None:
            return
        waiting, head = self._answering
        if self._followed is None:
            if waiting is None or self._assumed_order is not None or now - head.ts < AFTER_NS:
                return
            request, identity = waiting.head, exchange_id(waiting.head.ts, waiting.head.seq)
            reader = part_reader(head.fields.get(_CONTENT_TYPE), identity, SERVER, content_encoding(head.headers))
            self._followed = Followed(identity, {SERVER: reader}, self._pace)
            self.facts.append(StreamBegin(identity, request, head))
            if not self._responses.follow():
                self._followed.lose(SERVER)
        self.facts += self._followed.feed(SERVER, self._responses.take_pieces(), self._responses.last_ts)

    def client_gap(self, size: int | None) -> list[Exchange]:
        """`size` bytes of the client are lost; None if their number is not known."""
        return self._take_requests(self._requests.gap(size))

    def server_gap(self, size: int | None) -> list[Exchange]:
        """`size` bytes of the server are lost; None if their number is not known."""
        if size is not None:
            self._lost_to = self._server_next = (self._server_next + size) & MASK
        if self._followed is not None:
            self._followed.lose(SERVER)
        return self._take_responses(self._responses.gap(size))

    def client_end(self) -> list[Exchange]:
        return self._take_requests(self._requests.eof(self._cut_by(CLIENT)))

    def server_end(self) -> list[Exchange]:
        """The server sent FIN: the requests that wait get no answer."""
        cut = self._cut_by(SERVER)
        return [*self._take_responses(self._responses.eof(cut)), *self._give_up(len(self._queue), cut)]

    def finish(self, unfinished: ExchangeOutcome = OPEN) -> list[Exchange]:
        """The connection is over, or is given up: everything comes out as it is. `unfinished` is the outcome of what
        has not ended."""
        done = self._take_requests(self._requests.eof(unfinished, clean=False))
        done += self._take_responses(self._responses.eof(unfinished, clean=False))
        order = self._assumed_order
        is_orderly = order is not None and order.is_whole and unfinished.kind is OutcomeKind.TIMEOUT
        done += self._settle_order(is_proven=is_orderly)
        return done + self._give_up(len(self._queue), unfinished)

    # Pairs whose order is assumed.

    def prove(self, now: int) -> list[Exchange]:
        """The pairs that were kept back, if the server's silence until `now` (nanoseconds since 1970) proves them."""
        order = self._assumed_order
        if order is None or self._queue or self._answering is not None or self._arriving is not None:
            return []
        return self._settle_order(is_proven=True) if order.is_proven_by_silence(now) else []

    def _pair(self, request: Request, response: Response) -> list[Exchange]:
        """A request and its response, both complete. Nothing if the pair is kept back."""
        order = self._assumed_order
        if order is None:
            return [exchange_of(request, response, LOST)]
        self.held -= order.held
        is_proven = order.add(request, response)
        self.held += order.held
        return self._settle_order(is_proven=True) if is_proven else []

    def _disprove(self) -> list[Exchange]:
        """The server has sent something that no request waits for: then an assumed order is wrong."""
        if self._assumed_order is None:
            return []
        self._pipelines = self._responses_lost = True
        return self._settle_order(is_proven=False)

    def _settle_order(self, *, is_proven: bool) -> list[Exchange]:
        """Give out the pairs that were kept back: as pairs, or each message alone."""
        order = self._assumed_order
        if order is None:
            return []
        self.held -= order.held
        self._assumed_order = None if is_proven else AssumedOrder(order.last_ack)
        return order.exchanges(is_proven=is_proven)

    def _cut_by(self, sender: str) -> ExchangeOutcome:
        """The outcome of an exchange that a FIN cuts off. Who sent the first FIN has ended it."""
        if self._first_end is None:
            self._first_end = ExchangeOutcome(OutcomeKind.TIMEOUT, sender)
        return self._first_end

    # Requests.

    def _take_requests(self, events: Iterable[Event]) -> list[Exchange]:
        done: list[Exchange] = []
        for event in events:
            if isinstance(event, RequestHead):
                self._arriving = PendingRequest(event, certain=not self._requests_lost)
                done += self._enter(self._arriving) if event.method else self._enter_unreadable(self._arriving)
            elif isinstance(event, End):
                waiting, self._arriving = self._arriving, None
                if waiting is not None:
                    done += self._complete_request(waiting, event)
            elif isinstance(event, Lost):
                self._requests_lost = True
                if self._assumed_order is not None:
                    self._assumed_order.lose()
        self._weigh()
        return done

    def _enter(self, waiting: PendingRequest) -> list[Exchange]:
        """Queue a request whose head has come."""
        self.heads += 1
        self._requests_lost = False
        # 1. If the client has received lost responses, nobody knows how many it still waits for: perhaps none.
        before, self._last_ack = self._last_ack, waiting.head.ack
        received_nothing = self._last_ack == before
        if not received_nothing and (self._is_server_unread or self._has_lost_after(before)):
            self._owed = 0
        # 2. Find out whether the client pipelines. Then an assumed order is disproven.
        done: list[Exchange] = []
        if not self._pipelines and (self._owed > 0 or received_nothing):
            self._pipelines = True
            if self._assumed_order is not None:
                self._responses_lost = True
                done += self._settle_order(is_proven=False)
        # 3. Queue it. If the queue is full, its oldest request gets no answer.
        if self._queue and not self._queue[0].head.method:
            done += self._give_up(1, LOST)
        self._owed += 1
        self._queue.append(waiting)
        self.held += waiting.cost
        if len(self._queue) > MOST_UNANSWERED:
            done += self._give_up(1, OPEN)
            self._queue[0].certain = False
        return done

    def _enter_unreadable(self, waiting: PendingRequest) -> list[Exchange]:
        """Bytes have come that are no request. The server may answer them. But if other requests wait, or come, before
        it does, its next response is not known to be the answer to these bytes."""
        if self._queue:
            waiting.is_queued = waiting.may_be_answered = False
        else:
            self._queue.append(waiting)
            self.held += waiting.cost
        return []

    def _has_lost_after(self, number: int) -> bool:
        """True if bytes of the server with later sequence numbers were lost."""
        return self._lost_to is not None and after(self._lost_to, number)

    def _complete_request(self, waiting: PendingRequest, end: End) -> list[Exchange]:
        waiting.request = Request(waiting.head, end)
        waiting.cost += len(end.body)
        if waiting.is_queued:
            self.held += len(end.body)
        # A server may answer before the request is complete: then the exchange is complete now.
        if waiting.response is not None:
            return self._pair(waiting.request, waiting.response)
        return [] if waiting.may_be_answered else [exchange_of(waiting.request, None, waiting.unanswered)]

    # Responses.

    def _note_server_data(self, chunk: Data) -> None:
        self._is_server_unread = False
        self._server_next = chunk.seq + len(chunk.data)
        if self._server_from_start:
            self._server_from_start = False
            self._answered_to = chunk.seq

    def _take_responses(self, events: Iterable[Event]) -> list[Exchange]:
        done: list[Exchange] = []
        for event in events:
            if isinstance(event, ResponseHead):
                self.heads += event.status > 0  # bytes that are no response prove nothing
                self._owed = max(0, self._owed - 1)
                waiting, unanswered = self._match(event)
                done += unanswered
                self._answering = (waiting, event)
                method = None if waiting is None else waiting.head.method
                self._responses.answers(method if self._assumed_order is None else None)  # it may be another request's
                if waiting is not None and waiting is self._arriving and self._is_refused(waiting.head):
                    self._requests.refused()
            elif isinstance(event, End):
                answering, followed = self._answering, self._followed
                self._answering = self._followed = None
                if answering is not None:
                    waiting, head = answering
                    told = self._complete_response(waiting, Response(head, event))
                    if followed is not None:
                        self.facts += followed.feed(SERVER, self._responses.take_pieces(), event.ts)
                        self._responses.unfollow()
                        for exchange in told:
                            exchange.id = followed.id
                    done += told
                    if ends_http1(waiting, head):
                        self.given_away = True
                        done += self._take_requests(self._requests.eof(clean=False))
            elif isinstance(event, Lost):
                if not (self._queue or self._answering is not None or self._requests_lost):
                    done += self._disprove()
                if self._assumed_order is not None:
                    self._assumed_order.lose()
                self._responses_lost = self._responses_missed = True
                self._owed = 0  # all of them may be among the lost bytes
        self._weigh()
        return done

    def _is_refused(self, request: RequestHead) -> bool:
        """True if the client waits for a 100 (Continue) before it sends the body (RFC 9110 section 10.1.1), and this
        response came instead of it."""
        return not self._responses.continued and expects_continue(request)

    def _complete_response(self, waiting: PendingRequest | None, response: Response) -> list[Exchange]:
        if waiting is None:  # an answer that cannot be read is told with its request only
            return [exchange_of(None, response, LOST)] if response.head.status else []
        waiting.may_be_answered, waiting.response = False, response
        self._answered_to = response.end.seq
        return [] if waiting.request is None else self._pair(waiting.request, response)

    def _match(self, response: ResponseHead) -> tuple[PendingRequest | None, list[Exchange]]:
        """The request that this response answers, and the exchanges of older requests, which get no answer."""
        order = self._assumed_order
        is_second = order is not None and order.repeats(response.ack)
        # 1. Bytes that are no response may be the rest of a body that is longer than its head says. They are an answer
        #    only if the oldest request is one, and if rule 3 names it.
        oldest = self._queue[0].head if self._queue else None
        if not response.status and (oldest is None or not oldest.method or oldest.ack != response.seq):
            return None, self._disprove()
        # 2. Nothing was lost: it answers the oldest request.
        if oldest is not None and self._queue[0].certain and not self._responses_lost:
            if is_possible(oldest, response):
                return self._leave_queue(), []
        # 3. After a loss: it answers the request that rule 3 names.
        elif not self._pipelines:
            for index, waiting in enumerate(self._queue):
                if self._follows(waiting, response):
                    unanswered = self._give_up(index, LOST)
                    self._responses_lost = self._responses_missed = False
                    if order is None and self.heads < _HEADS_OF_A_WAITING_CLIENT:
                        self._assumed_order = AssumedOrder(response.ack)
                    return self._leave_queue(), unanswered
        # 4. No seen request waits for it. A lost one may, if no other request waits and the server has received more
        #    since its last answer.
        return None, [] if self._requests_lost and not (self._queue or is_second) else self._disprove()

    def _follows(self, waiting: PendingRequest, response: ResponseHead) -> bool:
        """True if the response answers this request by rule 3."""
        if waiting.head.ack != response.seq or not is_possible(waiting.head, response):
            return False
        if waiting.request is not None and after(response.ack, waiting.request.end.seq + 1):
            return False  # the client has sent more than this request, and a FIN: it does not wait
        return waiting.certain or response.seq != self._answered_to

    # The queue.

    def _leave_queue(self) -> PendingRequest:
        """Take the oldest request out."""
        waiting = self._queue.pop(0)
        waiting.is_queued = False
        self.held -= waiting.cost
        return waiting

    def _give_up(self, count: int, unanswered: ExchangeOutcome) -> list[Exchange]:
        """The oldest `count` requests get no answer, for this reason. Bytes that are no request are not told unless
        the connection is known to be HTTP."""
        done: list[Exchange] = []
        for _ in range(count):
            waiting = self._leave_queue()
            waiting.may_be_answered = False
            has_received_unseen = self._is_server_unread and self._last_ack != waiting.head.ack
            if not (self._responses_missed or self._has_lost_after(waiting.head.ack) or has_received_unseen):
                waiting.unanswered = unanswered
            if waiting.request is not None and (waiting.head.method or self.heads):
                done.append(exchange_of(waiting.request, None, waiting.unanswered))
        return done

    def _weigh(self) -> None:
        """Update `held` by what the readers keep now, and by requests that have left the queue: one whose answer has
        begun, and one whose answer came before its own end."""
        kept = self._requests.held + self._responses.held
        if self._followed is not None:
            kept += self._followed.held
        answering, arriving = self._answering, self._arriving
        answered = None
        if answering is not None:
            answered = answering[0]
            kept += answering[1].cost + (0 if answered is None else answered.cost)
        if arriving is not None and not arriving.is_queued and arriving is not answered:
            response = arriving.response
            kept += arriving.cost + (0 if response is None else response.head.cost + len(response.end.body))
        self.held += kept - self._kept
        self._kept = kept
