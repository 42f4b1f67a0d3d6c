"""The fast readers give the events of the plain ones, and the fast conversation its exchanges."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tapper.fast.http1 import FastConversation, FastRequestReader, FastResponseReader, request_line
from tapper.protocols import heads
from tapper.protocols.conversation import Conversation
from tapper.protocols.http1 import RequestReader, ResponseReader
from tapper.protocols.messages import End, Event, ResponseHead
from tapper.streams.reassembly import Data

REQUESTS = [
    b"GET /a HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n",
    b"GET /b HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n",
    b"GET /bare HTTP/1.1\r\n\r\n",
    b"GET /feeds HTTP/1.1\nHost: h\n\n",
    b"GET /mixed HTTP/1.1\r\nHost: h\n\r\nHost: x\r\n\r\n",
    b"POST /c HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /d HTTP/1.1\r\nContent-Length: 9\r\n\r\nhello",
    b"POST /e HTTP/1.1\r\nContent-Length: 3\r\n\r\nhello",
    b"POST /f HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    b"POST /g HTTP/1.1\r\nContent-Length: 40\r\n\r\n" + b"b" * 40,
    b"POST /h HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    b"POST /i HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"\r\nGET /j HTTP/1.1\r\n\r\n",
    b"POST /l HTTP/1.1\r\nContent-Length: 6\r\n\r\nhello!",
    b"POST /m HTTP/1.1\r\nY: 2\r\nContent-Length: 6\r\n\r\n",
    b"GET /k HTTP/1.1\r\nY: 2\r\nHost: h\r\nX: 1\r\n\r\n",
    b"GET /long HTTP/1.1\r\nX: " + b"x" * 300 + b"\r\n\r\n",
    b"no request\r\n\r\n",
    b"GET / HTTP/1.1\r\nno field\r\n\r\n",
    b"GET / HTTP/1.1\r\n folded\r\n\r\n",
    b"\n\r\n",
]
RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: 1\r\n\r\nhi",
    b"HTTP/1.1 404 No\r\nContent-Length: 2\r\nX: 1\r\n\r\nno",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nhi",
    b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n" + b"b" * 40,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    b"HTTP/1.1 204 None\r\nContent-Length: 2\r\n\r\nhi",
    b"HTTP/1.1 304 Same\r\nContent-Length: 2\r\n\r\nhi",
    b"HTTP/1.1 100 Go on\r\n\r\n",
    b"HTTP/1.1 103 Early\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switch\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
    b"no response\r\n\r\n",
    b"\r\n",
]


PlainReader = RequestReader | ResponseReader
FastReader = FastRequestReader | FastResponseReader


def fast_form(plain: type[PlainReader]) -> type[FastReader]:
    return FastRequestReader if plain is RequestReader else FastResponseReader


def fed(reader: PlainReader, *segment: int, data: bytes) -> list[Event]:
    return list(answered(reader, reader.feed(data, *segment)))


def answered(reader: PlainReader, events: Iterator[Event]) -> Iterator[Event]:
    for event in events:
        if isinstance(event, ResponseHead) and isinstance(reader, ResponseReader):
            reader.answers("GET")
        yield event


def read(reader: FastReader, *segment: int, data: bytes) -> list[Event]:
    """As FastConversation reads it: at once where the segment is a message."""
    whole = reader.whole(Data(data, *segment))
    return fed(reader, *segment, data=data) if whole is None else [whole.head, whole.end]


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(place % (len(stream) + 1) for place in cuts), len(stream)]
    return [stream[start:stop] for start, stop in pairwise(places) if start < stop]


def segments(messages: list[bytes]) -> st.SearchStrategy[list[bytes]]:
    """Messages, most of them in a segment of their own; some cut, joined, or damaged."""
    message = st.sampled_from(messages)
    damaged = st.builds(
        lambda data, at, byte: data[: at % len(data)] + byte + data[at % len(data) + 1 :],
        message,
        st.integers(0, 400),
        st.sampled_from([b"\r", b"\n", b":", b" ", b"\0", b"\xff", b""]),
    )
    pieces = st.one_of(message.map(lambda data: [data]), damaged.map(lambda data: [data]))
    joined = st.builds(
        lambda datas, cuts: cut(b"".join(datas), cuts), st.lists(message, max_size=3), st.lists(st.integers(0, 999))
    )
    return st.lists(st.one_of(pieces, pieces, joined), max_size=8).map(
        lambda lists: [segment for pieces in lists for segment in pieces]
    )


def compare(plain: type[PlainReader], stream: list[bytes]) -> None:
    """Fail if the plain reader and its fast form differ in an event or in the bytes that they hold."""
    fast = fast_form(plain)(head_limit=200, body_limit=30)
    only_feeding = fast_form(plain)(head_limit=200, body_limit=30)
    reader = plain(head_limit=200, body_limit=30)
    seq = 0xFFFF_FF00
    for number, data in enumerate(filter(None, stream)):
        segment = (number, seq, 7)
        expected = fed(reader, *segment, data=data)
        assert read(fast, *segment, data=data) == expected
        assert fed(only_feeding, *segment, data=data) == expected
        assert fast.held == only_feeding.held == reader.held
        seq = (seq + len(data)) & 0xFFFF_FFFF
    expected = list(answered(reader, reader.gap(3)))
    assert list(answered(fast, fast.gap(3))) == expected
    assert list(fast.eof()) == list(reader.eof())


@pytest.mark.parametrize(("plain", "messages"), [(RequestReader, REQUESTS), (ResponseReader, RESPONSES)])
def test_any_two_messages_are_read_alike(plain: type[PlainReader], messages: list[bytes]) -> None:
    for pair in product(messages, messages):
        compare(plain, [*pair, *pair])


@given(segments(REQUESTS))
def test_requests_are_read_alike(stream: list[bytes]) -> None:
    compare(RequestReader, stream)


@given(segments(RESPONSES))
def test_responses_are_read_alike(stream: list[bytes]) -> None:
    compare(ResponseReader, stream)


@pytest.mark.parametrize(
    ("reader", "data"),
    [
        (FastRequestReader(), REQUESTS[0]),
        (FastRequestReader(), REQUESTS[5]),
        (FastResponseReader(), RESPONSES[0]),
    ],
)
def test_a_segment_that_is_a_message_is_read_at_once(reader: FastReader, data: bytes) -> None:
    whole = reader.whole(Data(data, 1, 2, 3))
    assert whole is not None
    head, end = whole.head, whole.end
    assert (head.ts, head.seq, head.ack, head.size + end.size) == (1, 2, 3, len(data))
    assert reader.whole(Data(data, 1, 2, 3)) == whole, "and so does the next, whose fields are the same"


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nA: %s\r\n\r\n"
LONG = HEAD % (10, b"a" * 30) + b"0123456789"
SHORT = HEAD % (40, b"b") + b"c" * 25 + b"\r\n\r\n" + b"d" * 11


@pytest.mark.parametrize(
    ("reader", "stream"),
    [
        # where the first has the end of its head, or of its first line, the second has one, too, but it is a later one
        (ResponseReader, [LONG, SHORT]),
        (
            RequestReader,
            [b"GET /as-long-as-this HTTP/1.1\r\nA: b\r\n\r\n", b"GET / HTTP/1.1\r\nA: bcdefghijk\r\nC: d\r\n\r\n"],
        ),
        (RequestReader, [b"GET / HTTP/1.1\r\nA: b\r\n\r\n", b"GET /longer HTTP/1.1\r\nA: b\r\n\r\n"]),
        (RequestReader, [b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nA: b\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"]),
    ],
)
def test_where_the_message_before_had_its_ends_is_only_a_guess(
    reader: type[RequestReader] | type[ResponseReader], stream: list[bytes]
) -> None:
    compare(reader, stream)
    fast = fast_form(reader)()
    for data in stream:
        assert [type(event) for event in read(fast, 1, 2, 3, data=data)][1:] == [End]


def test_a_message_in_progress_is_not_overtaken() -> None:
    reader = FastRequestReader()
    assert list(reader.feed(b"GET /a HTTP/1.1\r\nHost")) == []
    assert reader.whole(Data(REQUESTS[0], 1, 2, 3)) is None
    answers = FastResponseReader()
    assert list(answers.feed(b"HTTP/1.1 100 Go on\r\n\r\n")) == [], "the final response began with this"
    assert answers.whole(Data(RESPONSES[0], 1, 2, 3)) is None


SIDES = ("client", "server")
EVENTS = ["sent"] * 8 + ["lost", "lost, size unknown", "end"]
USUAL = [REQUESTS[0], REQUESTS[1], REQUESTS[5], b"HEAD /n HTTP/1.1\r\n\r\n", b"CONNECT h:1 HTTP/1.1\r\n\r\n"]
ANSWERS = [RESPONSES[0], RESPONSES[1], RESPONSES[2], RESPONSES[6], RESPONSES[9]]

Segment = tuple[str, bytes, str, bool]
"""The sender, its data, what happens to the segment, and whether its sender has received all that was sent before."""


def turn(requests: list[bytes], responses: list[bytes]) -> st.SearchStrategy[list[Segment]]:
    """Up to two requests, then up to two responses."""

    def sent(side: str, messages: list[bytes]) -> st.SearchStrategy[list[Segment]]:
        received = st.sampled_from([True] * 4 + [False])
        segment = st.tuples(st.just(side), st.sampled_from(messages), st.sampled_from(EVENTS), received)
        return st.lists(segment, min_size=1, max_size=2) | st.lists(segment, min_size=1, max_size=1)

    return st.builds(lambda first, then: first + then, sent("client", requests), sent("server", responses))


turns = st.lists(turn(USUAL, ANSWERS) | turn(USUAL, ANSWERS) | turn(REQUESTS, RESPONSES), max_size=6)


def talk(request: bytes, response: bytes) -> list[list[Segment]]:
    return [[("client", request, "sent", True), ("server", response, "sent", True)]]


@settings(max_examples=200)
@example(talk(USUAL[3], RESPONSES[0]), True, True)
@example(talk(USUAL[4], RESPONSES[0]), True, True)
@given(turns, st.booleans(), st.booleans())
def test_conversations_are_paired_alike(drawn: list[list[Segment]], client_in_step: bool, server_in_step: bool) -> None:
    """Whatever is sent, lost, pipelined or ended: both conversations give the same exchanges, and hold as much."""
    plain = Conversation(client_in_step=client_in_step, server_in_step=server_in_step, body_limit=30)
    fast = FastConversation(client_in_step=client_in_step, server_in_step=server_in_step, body_limit=30)
    sent = {"client": 100, "server": 0xFFFF_FF00}
    received = {"client": sent["server"], "server": sent["client"]}
    for number, (side, data, event, has_received) in enumerate(segment for segments in drawn for segment in segments):
        if has_received:
            received[side] = sent[SIDES[side == "client"]]
        chunk = Data(data, number, sent[side], received[side])
        results = []
        for conversation in (plain, fast):
            is_client = side == "client"
            if event == "sent":
                results.append(conversation.from_client(chunk) if is_client else conversation.from_server(chunk))
            elif event == "end":
                results.append(conversation.client_end() if is_client else conversation.server_end())
            else:
                size = None if "unknown" in event else len(data)
                results.append(conversation.client_gap(size) if is_client else conversation.server_gap(size))
        assert results[0] == results[1]
        assert (fast.held, fast.heads, fast.given_away) == (plain.held, plain.heads, plain.given_away)
        if event != "end":
            sent[side] = (sent[side] + len(data)) & 0xFFFF_FFFF
    assert fast.finish() == plain.finish()


@given(
    st.sampled_from([b"GET", b"POST", b"get", b"X-Y", b"", b"\xe9"]),
    st.binary(max_size=6) | st.sampled_from([b"/", b"*", b"/a b", b"/\x7f", b"/\xe9", b'/"\\', b"http://h/"]),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2", b""]),
    st.sampled_from([b"\r", b"", b" \r"]),
)
def test_request_lines_are_read_alike(method: bytes, target: bytes, version: bytes, end: bytes) -> None:
    line = method + b" " + target + b" " + version + end
    assert request_line(line) == heads.request_line(line)
