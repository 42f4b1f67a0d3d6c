"""What has one meaning is read, and what has none is told and ends the reading."""

from __future__ import annotations

import pytest

from harness.conformance.oracle import http1

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("answered", "closed", "bodies", "complete"),
    [
        (OK + OK, False, [b"ok", b"ok"], True),
        (b"HTTP/1.0 200\r\n\r\nall of it", True, [b"all of it"], True),
        (b"HTTP/1.1 200 OK\r\n\r\nthe beginning", False, [b"the beginning"], False),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, False, [b"ok"], True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n" + OK, False, [b"", b"ok"], True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n0\r\nA: b\r\n\r\n", False, [b"ok"], True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok", False, [b"ok"], False),
    ],
)
def test_where_a_response_ends(answered: bytes, closed: bool, bodies: list[bytes], complete: bool) -> None:
    read = http1.read(GET * len(bodies), answered, closed=closed)
    assert read.flaw == ""
    responses = [pair.response for pair in read.pairs if pair.response is not None]
    assert [each.message.body for each in responses] == bodies
    assert all(each.message.complete for each in responses) is complete


def test_a_head_request_s_answer_has_no_body() -> None:
    answered = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + OK
    read = http1.read(GET.replace(b"GET", b"HEAD") + GET, answered, closed=False)
    assert [pair.response.message.body for pair in read.pairs if pair.response] == [b"", b"ok"]


@pytest.mark.parametrize(
    "asked",
    [
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 7\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello\r\n\r\n",
    ],
)
def test_what_is_unclear_is_told(asked: bytes) -> None:
    read = http1.read(GET + asked + GET, OK, closed=False)
    assert read.flaw.startswith("the client's bytes are unclear: ")
    assert len(read.pairs) == 1


def test_an_answer_without_a_request_has_none() -> None:
    (pair,) = http1.read(b"", OK, closed=False).pairs
    assert pair.request is None


def test_behind_a_change_of_protocol_nothing_is_read() -> None:
    asked = GET + b"\x81\x85\1\2\3\4hello"
    answered = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x02ok"
    read = http1.read(asked, answered, closed=False)
    assert read.flaw == ""
    assert read.switched_at == (len(GET), len(answered) - 4)


EXPECTING = b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
REFUSAL = b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("asked", "answered", "bodies", "complete"),
    [
        (EXPECTING + GET, REFUSAL + OK, [b"", b""], False),
        (EXPECTING + b"abc" + GET, REFUSAL + OK, [b"abc", b""], True),
        (EXPECTING + b"abc" + GET, b"HTTP/1.1 100 Continue\r\n\r\n" + OK + OK, [b"abc", b""], True),
        (EXPECTING + EXPECTING + b"abc", REFUSAL + OK, [b"", b"abc"], False),
    ],
)
def test_a_refused_expectation_is_followed_by_the_next_request(
    asked: bytes, answered: bytes, bodies: list[bytes], complete: bool
) -> None:
    read = http1.read(asked, answered, closed=False)
    assert read.flaw == ""
    requests = [pair.request for pair in read.pairs if pair.request is not None]
    assert [each.message.body for each in requests] == bodies
    assert requests[0].message.complete is complete
    assert all(pair.response is not None for pair in read.pairs)


def test_a_body_that_begins_like_a_request_and_was_asked_for_is_unclear() -> None:
    body = GET.ljust(40)
    asked = EXPECTING.replace(b": 3", b": 40") + body
    read = http1.read(asked + GET, b"HTTP/1.1 100 Continue\r\n\r\n" + OK + OK, closed=False)
    assert read.flaw != ""
