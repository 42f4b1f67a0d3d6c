"""The pairs of one HTTP/1 connection whose order is assumed, kept back until it is proven or disproven.

Where a connection was joined midway, or after a loss, a request and a response are paired because the request expects
its answer at the very byte where the response begins. But a client with an unseen request on its way looks the same if
it sends a request for each response that it gets: each response is then the answer to the request before. What comes
later tells the two apart:

| proof                                                              | disproof                                       |
|--------------------------------------------------------------------|------------------------------------------------|
| the server owes nothing: it was silent for ten times as long as it | the client sends a request while another one   |
| took for its answers, and for a second                             | is unanswered                                  |
| both ends sent FIN, and hardly any bytes were lost                 | the server sends a response, or lost bytes,    |
|                                                                    | and no request waits for this response         |
| 256 requests in a row waited for their answers                     | the server sends a response, and has received  |
|                                                                    | nothing since the one before                   |
| a response of 101: its request was the last one                    | the connection, or the capture, ends otherwise |
"""

from __future__ import annotations

from typing import Final

from tapper.protocols.exchange import Exchange, exchange_of
from tapper.protocols.messages import Request, Response
from tapper.protocols.outcome import LOST, OutcomeKind
from tapper.runtime.native import mypyc_attr
from tapper.streams.bounds import SECOND

MOST_PAIRS: Final = 256
_SILENCE_NS: Final = SECOND
_SILENCE_IN_WAITS: Final = 10
_MOST_LOSSES: Final = 2  # a request and its answer
_PAIR_COST: Final = 512  # bytes that a pair counts for, besides those that it has


@mypyc_attr(acyclic=True)
class AssumedOrder:
    """The pairs so far."""

    __slots__ = ("_longest_wait", "_losses", "_pairs", "held", "is_whole", "last_ack")

    def __init__(self, last_ack: int) -> None:
        self._pairs: list[tuple[Request, Response]] = []
        self.held = 0
        """Bytes that the pairs count for."""
        self.is_whole = True
        """False if a disproof may be hidden: bytes were lost more than twice, a FIN cut a response off, or a body has
        another response in it. A request other than the assumed one may have told that it has no body."""
        self._losses = 0
        self._longest_wait = 0  # of a request for its response, in nanoseconds
        self.last_ack = last_ack
        """The acknowledgement of the last response."""

    def add(self, request: Request, response: Response) -> bool:
        """One more pair. Returns True if it proves the order."""
        self._pairs.append((request, response))
        self.held += _PAIR_COST + request.head.cost + len(request.end.body) + response.head.cost
        self.held += len(response.end.body)
        is_cut_off = response.end.outcome.kind is OutcomeKind.TIMEOUT
        self.is_whole = self.is_whole and not is_cut_off and b"HTTP/1." not in response.end.body
        self._longest_wait = max(self._longest_wait, response.head.ts - request.end.ts)
        return response.head.status == 101 or len(self._pairs) == MOST_PAIRS

    def lose(self) -> None:
        """Bytes of one side were lost."""
        self._losses += 1
        self.is_whole = self.is_whole and self._losses <= _MOST_LOSSES

    def repeats(self, ack: int) -> bool:
        """A response has come with this acknowledgement. Returns True if the one before had the same."""
        before, self.last_ack = self.last_ack, ack
        return ack == before

    def is_proven_by_silence(self, now: int) -> bool:
        """Whether the server, which owes nothing to the requests that were seen, was silent for long enough until
        `now`, in nanoseconds since 1970."""
        silence = now - self._pairs[-1][1].end.ts if self._pairs else 0
        return self.is_whole and silence >= max(_SILENCE_NS, _SILENCE_IN_WAITS * self._longest_wait)

    def exchanges(self, *, is_proven: bool) -> list[Exchange]:
        """The pairs, or each message alone."""
        if is_proven:
            return [exchange_of(request, response, LOST) for request, response in self._pairs]
        return [
            exchange
            for request, response in self._pairs
            for exchange in (exchange_of(request, None, LOST), exchange_of(None, response, LOST))
        ]
