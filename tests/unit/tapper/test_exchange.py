"""Pairing: in order, pipelined, after loss, after an upgrade; and that a wrong pair is never made."""

from __future__ import annotations

import pytest

from tapper.protocols.conversation import MOST_UNANSWERED, Conversation
from tapper.protocols.exchange import Exchange
from tapper.protocols.outcome import OPEN, ExchangeOutcome, OutcomeKind
from tapper.streams.bounds import SECOND
from tapper.streams.reassembly import Data


class Talk:
    """A conversation whose two sides keep TCP's numbers."""

    def __init__(self, *, client_in_step: bool = True, server_in_step: bool = True, isn: int = 100) -> None:
        self.conversation = Conversation(client_in_step=client_in_step, server_in_step=server_in_step)
        self.client = self.client_acked = isn
        self.server = self.server_acked = (isn + 5000) & 0xFFFFFFFF
        self.ts = 0
        self.done: list[Exchange] = []

    def ask(self, data: bytes, *, lost: bool = False) -> Talk:
        """The client sends, having received all that the server sent so far."""
        self.ts += 10
        if lost:
            self.done += self.conversation.client_gap(len(data))
        else:
            self.done += self.conversation.from_client(Data(data, self.ts, self.client, self.server_acked))
        self.client = (self.client + len(data)) & 0xFFFFFFFF
        return self

    def answer(self, data: bytes, *, lost: bool = False, ack: int | None = None, received: bool = True) -> Talk:
        """The server sends, having received all (or up to `ack`); the client receives it at once, or not yet."""
        self.ts += 10
        if lost:
            self.done += self.conversation.server_gap(len(data))
        else:
            numbers = self.client if ack is None else ack
            self.done += self.conversation.from_server(Data(data, self.ts, self.server, numbers))
        self.server = (self.server + len(data)) & 0xFFFFFFFF
        if received:
            self.server_acked = self.server
        return self

    def silence(self, seconds: int = 2) -> Talk:
        self.ts += seconds * SECOND
        self.done += self.conversation.prove(self.ts)
        return self

    def finish(self, outcome: ExchangeOutcome = OPEN) -> Talk:
        self.done += self.conversation.finish(outcome)
        return self

    @property
    def pairs(self) -> list[tuple[str | None, str | None]]:
        return [
            (
                None if exchange.request is None else exchange.request.head.target,
                None if exchange.response is None else exchange.response.end.body.decode(),
            )
            for exchange in self.done
        ]


def get(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\n\r\n".encode()


def ok(body: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def test_one_after_the_other() -> None:
    talk = Talk().ask(get("/1")).answer(ok("a")).ask(get("/2")).answer(ok("b"))
    assert talk.pairs == [("/1", "a"), ("/2", "b")]
    assert talk.finish().pairs == [("/1", "a"), ("/2", "b")]
    assert talk.conversation.held == 0


def test_times_are_of_the_first_and_the_last_byte() -> None:
    talk = Talk().ask(get("/1")).answer(ok("abc")[:-1]).answer(b"c")
    (exchange,) = talk.done
    assert (exchange.ts, exchange.duration) == (10, 20)


@pytest.mark.parametrize("isn", [100, 0xFFFFFFF0, 0xFFFFEC80])
def test_pipelined_requests_are_answered_in_order(isn: int) -> None:
    talk = Talk(isn=isn).ask(get("/1") + get("/2")).ask(get("/3")).answer(ok("a") + ok("b")).answer(ok("c"))
    assert talk.pairs == [("/1", "a"), ("/2", "b"), ("/3", "c")]


def test_a_response_may_come_before_its_request_is_complete() -> None:
    talk = Talk().ask(b"POST /1 HTTP/1.1\r\nContent-Length: 4\r\n\r\nab").answer(ok("early"))
    assert talk.pairs == []
    assert talk.ask(b"cd").pairs == [("/1", "early")]
    request = talk.done[0].request
    assert request is not None
    assert request.end.body == b"abcd"


def test_interim_responses_are_no_answers() -> None:
    talk = Talk().ask(b"POST /1 HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    talk.answer(b"HTTP/1.1 100 Continue\r\n\r\n").ask(b"ab").answer(ok("done"))
    assert talk.pairs == [("/1", "done")]


EXPECTING = b"PUT /1 HTTP/1.1\r\nExpect: 100-continue\r\n%s\r\n\r\n"


@pytest.mark.parametrize("framing", [b"Content-Length: 40", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_refused_expectation_is_followed_by_another_request(framing: bytes, size: int) -> None:
    """RFC 9110 section 10.1.1: a client that got a final status need not send the body."""
    talk = Talk().ask(EXPECTING % framing).answer(b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno")
    following = get("/2")
    for at in range(0, len(following), size):
        talk.ask(following[at : at + size])
    talk.answer(ok("b")).ask(get("/3")).answer(ok("c"))
    assert talk.pairs == [("/1", "no"), ("/2", "b"), ("/3", "c")]
    request = talk.done[0].request
    assert request is not None
    assert (request.end.size, request.end.truncated) == (0, False)


@pytest.mark.parametrize("interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b""])
@pytest.mark.parametrize("body", [b"GET / HTTP/9.9\r\nx", b"just a body of bytes", b"GET /", b"word" * 5000])
def test_a_refused_expectation_may_be_followed_by_its_body(interim: bytes, body: bytes) -> None:
    talk = Talk().ask(EXPECTING % b"Content-Length: %d" % len(body)).answer(interim + ok("early"))
    talk.ask(body[:7]).ask(body[7:] + get("/2")).answer(ok("b"))
    assert talk.pairs == [("/1", "early"), ("/2", "b")]
    request = talk.done[0].request
    assert request is not None
    assert request.end.body == body


def test_a_body_that_looks_like_a_request_is_a_body_where_it_was_asked_for() -> None:
    body = get("/inner")
    talk = Talk().ask(EXPECTING % b"Content-Length: %d" % len(body)).answer(b"HTTP/1.1 100 Continue\r\n\r\n")
    talk.answer(ok("early")).ask(body).ask(get("/2")).answer(ok("b"))
    assert talk.pairs == [("/1", "early"), ("/2", "b")]


def test_a_head_response_is_framed_by_its_request() -> None:
    talk = (
        Talk()
        .ask(b"HEAD /1 HTTP/1.1\r\n\r\n" + get("/2"))
        .answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" + ok("b"))
    )
    assert talk.pairs == [("/1", ""), ("/2", "b")]


def test_an_answer_to_what_was_never_asked_stays_alone() -> None:
    talk = Talk().answer(ok("timeout")).ask(get("/1")).answer(ok("a"))
    assert talk.pairs == [(None, "timeout"), ("/1", "a")]


def test_a_response_sent_before_a_request_arrived_is_not_its_answer() -> None:
    """A server's 408 crosses a request on the way: the response acknowledges nothing of the request."""
    talk = Talk()
    before = talk.client
    talk.ask(get("/1")).answer(ok("408"), ack=before)
    assert talk.pairs == [(None, "408")]
    assert talk.answer(ok("a")).pairs == [(None, "408"), ("/1", "a")]


def test_a_response_received_before_a_request_was_sent_is_not_its_answer() -> None:
    talk = Talk()
    late = Data(ok("old"), 5, talk.server, talk.client + 1000)
    talk.answer(ok("old"), lost=False).done.clear()
    talk = Talk()
    talk.server_acked = talk.server + 10
    talk.ask(get("/1"))
    talk.done += talk.conversation.from_server(late)
    assert talk.pairs == [(None, "old")]


def test_a_lost_response_leaves_its_request_alone_and_shifts_nobody() -> None:
    talk = Talk().ask(get("/1")).answer(ok("a")).ask(get("/2")).answer(ok("b"), lost=True)
    talk.ask(get("/3")).answer(ok("c")).ask(get("/4")).answer(ok("d")).silence()
    assert talk.pairs == [("/1", "a"), ("/2", None), ("/3", "c"), ("/4", "d")]


def test_a_lost_request_leaves_its_response_alone_and_shifts_nobody() -> None:
    talk = Talk().ask(get("/1")).answer(ok("a")).ask(get("/2"), lost=True).answer(ok("b"))
    talk.ask(get("/3")).answer(ok("c")).silence()
    assert talk.pairs == [("/1", "a"), (None, "b"), ("/3", "c")]


def test_a_lost_request_among_pipelined_ones_makes_no_wrong_pair() -> None:
    talk = Talk().ask(get("/1")).ask(get("/2"), lost=True).ask(get("/3"))
    talk.answer(ok("a")).answer(ok("b")).answer(ok("c")).finish()
    assert ("/3", "b") not in talk.pairs
    assert ("/1", "a") in talk.pairs
    assert sorted(pair for pair in talk.pairs if pair[0] is None) == [(None, "b"), (None, "c")]


def test_a_lost_response_among_pipelined_ones_makes_no_wrong_pair() -> None:
    talk = Talk().ask(get("/1") + get("/2") + get("/3"))
    talk.answer(ok("a"), received=False).answer(ok("b"), lost=True, received=False).answer(ok("c")).finish()
    assert talk.pairs[0] == ("/1", "a")
    assert ("/2", "c") not in talk.pairs
    assert (None, "c") in talk.pairs


def test_after_a_loss_a_client_that_begins_to_pipeline_is_not_paired_any_longer() -> None:
    """Nothing tells whether b answered /2: an unseen request may have been before."""
    talk = Talk().ask(get("/1")).answer(ok("a"), lost=True).ask(get("/2")).answer(ok("b"))
    talk.ask(get("/3") + get("/4")).answer(ok("c"), received=False).answer(ok("d")).finish()
    assert [pair for pair in talk.pairs if None not in pair] == []
    assert len(talk.pairs) == 7


def test_a_loss_within_a_body_costs_only_the_body() -> None:
    talk = Talk().ask(get("/1")).answer(ok("abcdef")[:-4]).answer(b"cd", lost=True).answer(b"ef")
    talk.ask(get("/2")).answer(ok("b"))
    assert talk.pairs == [("/1", "ab"), ("/2", "b")]
    response = talk.done[0].response
    assert response is not None
    assert (response.end.size, response.end.truncated) == (6, True)


def test_an_answer_that_is_no_response_is_told_with_its_request() -> None:
    [exchange] = Talk().ask(get("/1")).answer(b"ICY 200 OK\r\n\r\nmusic").finish().done
    assert (exchange.outcome.kind, [part.line for part in exchange.outcome.malformed]) == ("unparsable", ["ICY 200 OK"])


def test_the_rest_of_a_body_that_is_too_long_is_no_answer_to_the_next_request() -> None:
    too_long = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc"
    talk = Talk().ask(get("/1")).answer(too_long).ask(get("/2")).answer(ok("b")).silence()
    assert talk.pairs == [("/1", "a"), ("/2", "b")]


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_after_a_malformed_response_the_next_one_is_found_in_any_segments(size: int) -> None:
    """The next request acknowledges all that came before it, so the next byte is the first of its response."""
    talk = Talk().ask(get("/1")).answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").ask(get("/2"))
    following = ok("b")
    for at in range(0, len(following), size):
        talk.answer(following[at : at + size])
    assert talk.ask(get("/3")).answer(ok("c")).silence().finish().pairs == [("/1", ""), ("/2", "b"), ("/3", "c")]


def test_a_connection_whose_two_sides_are_no_http_makes_no_exchange() -> None:
    talk = Talk().ask(b"HELO\r\n").answer(b"220 hello\r\n").ask(b"GET /a\r\n").answer(b"500 what\r\n").finish()
    assert (talk.done, talk.conversation.heads) == ([], 0)


MIDWAY = {"client_in_step": False, "server_in_step": False}
ENDED = ExchangeOutcome(OutcomeKind.TIMEOUT)
"""How Conversation is told that both ends sent FIN."""


def test_joined_midway_between_request_and_response() -> None:
    talk = Talk(**MIDWAY).answer(ok("unseen")).ask(get("/1")).answer(ok("a"))
    assert talk.silence().pairs == [(None, "unseen"), ("/1", "a")]
    assert talk.ask(get("/2")).answer(ok("b")).pairs[2:] == [("/2", "b")]  # the order is known now
    assert talk.conversation.held == 0


def joined_with_one_on_its_way(count: int) -> Talk:
    """An unseen request is on its way. From then on the client sends a request for each response that it gets. The
    response n - 1 begins where request n expects its own."""
    talk = Talk(**MIDWAY)
    for index in range(1, count + 1):
        talk.ask(get(f"/{index}")).answer(ok(f"{index - 1}"))
    return talk


def wrong(talk: Talk) -> list[tuple[str | None, str | None]]:
    return [(target, body) for target, body in talk.pairs if None not in (target, body) and target != f"/{body}"]


def test_an_answer_too_many_disproves_the_order_of_all_before() -> None:
    talk = joined_with_one_on_its_way(9)
    assert talk.pairs == []
    assert wrong(talk.answer(ok("9")).finish(ENDED)) == []
    assert (len(talk.pairs), talk.conversation.held) == (19, 0)


def test_a_disproven_order_goes_on_to_be_wrong() -> None:
    """The answers 2 and 3 come in a row. So the client had two requests on their way, and has again."""
    talk = joined_with_one_on_its_way(2).answer(ok("2"), received=False).ask(get("/3")).ask(get("/4"))
    assert wrong(talk.answer(ok("2b")).answer(ok("3b")).finish(ENDED)) == []
    assert [pair for pair in talk.pairs if None not in pair] == []


def test_a_lost_answer_too_many_disproves_the_order_of_all_before() -> None:
    assert wrong(joined_with_one_on_its_way(9).answer(ok("9"), lost=True).finish(ENDED)) == []


def test_two_answers_to_the_bytes_of_one_request_disprove_the_order() -> None:
    """The requests from /10 on are lost: one of them may wait for the answer 9, but not for the answer 10 as well."""
    talk = joined_with_one_on_its_way(9).ask(get("/10"), lost=True)
    talk.answer(ok("9"), received=False).answer(ok("10"), received=False)
    assert wrong(talk.finish(ENDED)) == []


def test_a_capture_that_ends_at_once_proves_no_order() -> None:
    assert wrong(joined_with_one_on_its_way(9).finish()) == []


def test_a_response_to_a_method_that_is_assumed_may_have_another_body() -> None:
    """Its request was not HEAD: the bytes of its body are not a response."""
    talk = Talk(**MIDWAY).ask(b"HEAD /1 HTTP/1.1\r\n\r\n").answer(ok("unseen")).answer(ok("1")[:-1])
    assert [body for _, body in talk.finish().pairs] == [None, "unseen", ""]


def test_a_response_that_the_end_cuts_off_proves_no_order() -> None:
    """It answers an unseen HEAD, and has no body. The lost bytes after it are the next response."""
    talk = Talk(**MIDWAY).ask(get("/1")).answer(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
    talk.answer(ok("1"), lost=True)
    talk.done += talk.conversation.client_end() + talk.conversation.server_end()
    assert [pair for pair in talk.finish(ENDED).pairs if None not in pair] == []


def test_a_client_that_has_sent_more_than_its_request_does_not_wait() -> None:
    """The server has received /2, which was not captured. So the first response may answer a request before /1."""
    talk = Talk(**MIDWAY).ask(get("/1"))
    talk.client += 50
    talk.answer(ok("0"))
    assert [pair for pair in talk.finish(ENDED).pairs if None not in pair] == []


@pytest.mark.parametrize("is_quiet", [True, False])
def test_a_body_with_another_response_in_it_proves_no_order(is_quiet: bool) -> None:
    """The first response answers an unseen HEAD, and has no body. The server had received /1 before."""
    talk = Talk(**MIDWAY).ask(get("/1"))
    talk.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(ok("1")), received=False).answer(ok("1"))
    talk = talk.silence(60) if is_quiet else talk
    assert [pair for pair in talk.finish(ENDED).pairs if None not in pair] == []


def test_a_response_after_a_lost_request_is_not_that_ones_if_another_waits() -> None:
    talk = joined_with_one_on_its_way(2).ask(get("/3")).ask(get("/4"), lost=True)
    talk.answer(ok("2"), lost=True, received=False).answer(ok("3"), received=False)
    assert wrong(talk.finish(ENDED)) == []


def test_a_response_that_no_request_expects_disproves_the_order() -> None:
    """/3 waits, and expects its answer elsewhere: bytes of the server were lost before."""
    talk = joined_with_one_on_its_way(2).ask(get("/3")).answer(ok("2"), lost=True).answer(ok("3"))
    assert wrong(talk.finish(ENDED)) == []


def test_a_slow_server_is_not_taken_for_a_silent_one() -> None:
    """It takes 500 ms for an answer: after three seconds of silence it may still owe one."""
    talk = Talk(**MIDWAY).ask(get("/1"))
    talk.ts += SECOND // 2
    talk.answer(ok("0")).silence(3)
    assert talk.pairs == []
    assert wrong(talk.answer(ok("1"))) == []


def test_both_ends_that_have_ended_prove_the_order() -> None:
    talk = Talk(**MIDWAY).ask(get("/1")).answer(ok("1")).ask(get("/2")).answer(ok("2"))
    assert talk.pairs == []
    assert talk.finish(ENDED).pairs == [("/1", "1"), ("/2", "2")]


def test_pairs_that_are_kept_back_are_weighed_and_bounded() -> None:
    talk = Talk(**MIDWAY)
    for index in range(MOST_UNANSWERED):
        assert talk.pairs == []
        talk.ask(get(f"/{index}")).answer(ok(f"{index}"))
        assert (index == MOST_UNANSWERED - 1) == (talk.conversation.held == 0)
    assert talk.pairs == [(f"/{index}", f"{index}") for index in range(MOST_UNANSWERED)]


def test_a_client_that_has_always_waited_is_not_doubted_after_a_loss() -> None:
    talk = Talk()
    for index in range(8):
        talk.ask(get(f"/{index}")).answer(ok(f"{index}"))
    talk.ask(get("/lost"), lost=True).answer(ok("lost"))
    assert talk.ask(get("/9")).answer(ok("9")).pairs[8:] == [(None, "lost"), ("/9", "9")]


def test_joined_midway_with_a_request_already_on_its_way_makes_no_wrong_pair() -> None:
    talk = Talk(client_in_step=False, server_in_step=False)
    talk.client += 500  # an unseen request, pipelined before the one that is seen
    talk.ask(get("/1")).answer(b"tail of an unseen response").answer(ok("unseen")).answer(ok("a")).finish()
    assert ("/1", "unseen") not in talk.pairs


def test_joined_midway_among_pipelined_requests_makes_no_wrong_pair() -> None:
    talk = Talk(client_in_step=False, server_in_step=False)
    talk.client += 50  # the first of three requests had gone by
    talk.ask(get("/2")).ask(get("/3")).answer(ok("a")).answer(ok("b")).answer(ok("c"))
    talk.ask(get("/4")).answer(ok("d")).finish()
    assert {target for target, body in talk.pairs if body is None} == {"/2", "/3", "/4"}
    assert [body for target, body in talk.pairs if target is None] == ["a", "b", "c", "d"]


def test_a_client_that_pipelines_joined_midway_makes_no_wrong_pair() -> None:
    """Two requests are always on their way. The answer to the first begins where the third expects its own."""
    talk = Talk(client_in_step=False, server_in_step=False)
    talk.ask(get("/0")).ask(get("/1"))
    for index in range(2, 8):
        talk.answer(ok(f"{index - 2}")).ask(get(f"/{index}"))
    talk.finish()
    assert wrong(talk) == []
    assert len([body for _, body in talk.pairs if body is not None]) == 6


def test_a_client_that_pipelines_makes_no_wrong_pair_after_a_lost_answer() -> None:
    talk = Talk().ask(get("/0")).ask(get("/1"))
    for index in range(2, 8):
        talk.answer(ok(f"{index - 2}"), lost=index == 4).ask(get(f"/{index}"))
    talk.finish()
    assert wrong(talk) == []
    assert talk.pairs[:2] == [("/0", "0"), ("/1", "1")]


def test_the_server_ends_with_requests_unanswered() -> None:
    talk = Talk().ask(get("/1") + get("/2")).answer(ok("a"))
    talk.done += talk.conversation.server_end()
    assert talk.pairs == [("/1", "a"), ("/2", None)]


def test_a_client_that_ends_may_still_be_answered() -> None:
    talk = Talk().ask(get("/1"))
    talk.done += talk.conversation.client_end()
    assert talk.answer(ok("a")).finish().pairs == [("/1", "a")]


def test_what_is_open_at_the_end_comes_out_truncated() -> None:
    talk = Talk().ask(get("/1")).answer(ok("abcdef")[:-3]).ask(get("/2")).finish()
    assert talk.pairs == [("/1", "abc"), ("/2", None)]
    response = talk.done[0].response
    assert response is not None
    assert response.end.truncated


def test_a_request_whose_body_is_cut_off_comes_out_truncated() -> None:
    talk = Talk().ask(b"POST /1 HTTP/1.1\r\nContent-Length: 4\r\n\r\nab").finish()
    request = talk.done[0].request
    assert request is not None
    assert (talk.pairs, request.end.truncated) == ([("/1", None)], True)


@pytest.mark.parametrize(
    ("request_line", "answer"),
    [
        (b"GET /1 HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        (b"CONNECT /1 HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"),
    ],
)
def test_after_an_upgrade_nothing_is_read(request_line: bytes, answer: bytes) -> None:
    talk = Talk().ask(request_line).answer(answer).ask(get("/no")).answer(ok("no")).finish()
    assert talk.pairs == [("/1", "")]


def test_a_refused_upgrade_goes_on() -> None:
    talk = Talk().ask(b"GET /1 HTTP/1.1\r\nUpgrade: h2c\r\n\r\n").answer(ok("no")).ask(get("/2")).answer(ok("b"))
    assert talk.pairs == [("/1", "no"), ("/2", "b")]


def test_unanswered_requests_are_bounded() -> None:
    talk = Talk()
    for index in range(MOST_UNANSWERED + 10):
        talk.ask(get(f"/{index}"))
    assert talk.pairs == [(f"/{index}", None) for index in range(10)]
    assert 0 < talk.conversation.held < MOST_UNANSWERED * 1024
    talk.finish()
    assert len(talk.pairs) == MOST_UNANSWERED + 10
    assert talk.conversation.held == 0


def test_what_is_held_is_counted_down_again() -> None:
    talk = Talk().ask(b"POST /1 HTTP/1.1\r\nContent-Length: 4000\r\n\r\n" + b"x" * 4000)
    assert talk.conversation.held > 4000
    talk.answer(ok("a"))
    assert talk.conversation.held == 0


@pytest.mark.parametrize("method", ["HEAD", "CONNECT"])
def test_what_follows_an_answer_without_a_body_is_not_its_body(method: str) -> None:
    """Its length says just so many bytes as the next answer has, in the same segment."""
    following = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb"
    first = f"HTTP/1.1 200 OK\r\nContent-Length: {len(following)}\r\n\r\n".encode()
    talk = Talk().ask(f"{method} /a HTTP/1.1\r\n\r\n".encode()).ask(get("/b")).answer(first + following)
    assert talk.pairs[0] == ("/a", "")
    assert method == "CONNECT" or talk.pairs[1:] == [("/b", "b")]
