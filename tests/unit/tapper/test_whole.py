"""The short way of a message that is whole in its segment says what the long way says, and declines all else."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def the_long_way(reader: RequestReader | ResponseReader, *segment: int, data: bytes) -> list[Event]:
    return list(answered(reader, reader.feed(data, *segment)))


def answered(reader: RequestReader | ResponseReader, events: Iterator[Event]) -> Iterator[Event]:
    for event in events:
        if isinstance(event, ResponseHead) and isinstance(reader, ResponseReader):
            reader.answers("GET")
        yield event


def the_short_way(reader: RequestReader | ResponseReader, *segment: int, data: bytes) -> list[Event]:
    whole = reader.whole(Data(data, *segment))
    return the_long_way(reader, *segment, data=data) if whole is None else [whole.head, whole.end]


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(place % (len(stream) + 1) for place in cuts), len(stream)]
    return [stream[start:stop] for start, stop in pairwise(places) if start < stop]


def segments(messages: list[bytes]) -> st.SearchStrategy[list[bytes]]:
    """Messages, mostly each in a segment of its own; some cut, joined, or damaged."""
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
        lambda lists: [it for one in lists for it in one]
    )


def both_ways(kind: type[RequestReader | ResponseReader], stream: list[bytes]) -> None:
    """Fail where they differ."""
    one, other = kind(head_limit=200, body_limit=30), kind(head_limit=200, body_limit=30)
    seq = 0xFFFF_FF00
    for number, data in enumerate(filter(None, stream)):
        segment = (number, seq, 7)
        assert the_short_way(one, *segment, data=data) == the_long_way(other, *segment, data=data)
        assert one.held == other.held
        seq = (seq + len(data)) & 0xFFFF_FFFF
    assert list(answered(one, one.gap(3))) == list(answered(other, other.gap(3)))
    assert list(one.eof()) == list(other.eof())


@pytest.mark.parametrize(("kind", "messages"), [(RequestReader, REQUESTS), (ResponseReader, RESPONSES)])
def test_two_messages_say_the_same_both_ways(kind: type[RequestReader | ResponseReader], messages: list[bytes]) -> None:
    for pair in product(messages, messages):
        both_ways(kind, [*pair, *pair])


@given(segments(REQUESTS))
def test_requests_say_the_same_both_ways(stream: list[bytes]) -> None:
    both_ways(RequestReader, stream)


@given(segments(RESPONSES))
def test_responses_say_the_same_both_ways(stream: list[bytes]) -> None:
    both_ways(ResponseReader, stream)


@pytest.mark.parametrize(
    ("reader", "data"),
    [(RequestReader(), REQUESTS[0]), (RequestReader(), REQUESTS[5]), (ResponseReader(), RESPONSES[0])],
)
def test_the_usual_message_goes_the_short_way(reader: RequestReader | ResponseReader, data: bytes) -> None:
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
    both_ways(reader, stream)
    one = reader()
    for data in stream:
        assert [type(event) for event in the_short_way(one, 1, 2, 3, data=data)][1:] == [End]


def test_a_message_in_progress_is_not_overtaken() -> None:
    reader = RequestReader()
    assert list(reader.feed(b"GET /a HTTP/1.1\r\nHost")) == []
    assert reader.whole(Data(REQUESTS[0], 1, 2, 3)) is None
    answers = ResponseReader()
    assert list(answers.feed(b"HTTP/1.1 100 Go on\r\n\r\n")) == [], "the final response began with this"
    assert answers.whole(Data(RESPONSES[0], 1, 2, 3)) is None
