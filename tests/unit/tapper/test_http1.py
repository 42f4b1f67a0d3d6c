"""Every case is fed three ways: whole, byte by byte, and whole with the next message behind it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tapper.protocols.http1 import RequestReader, ResponseReader
from tapper.protocols.http1_reader import Reader
from tapper.protocols.messages import End, Event, Lost, RequestHead, ResponseHead

Message = tuple[str, list[tuple[str, str]], bytes, list[tuple[str, str]]]
"""(start line's essence, headers, body, trailers)"""


def messages(events: Iterable[Event]) -> list[Message | str]:
    out: list[Message | str] = []
    head: RequestHead | ResponseHead | None = None
    for event in events:
        if isinstance(event, End):
            assert head is not None, "an end without a head"
            start = head.method + " " + head.target if isinstance(head, RequestHead) else f"{head.status} {head.reason}"
            mark = "!" if event.truncated else ""
            out.append((start + mark, list(head.headers), event.body, list(event.trailers)))
            head = None
        elif isinstance(event, Lost):
            out.append("lost")
        else:
            assert head is None, "a head within a message"
            head = event
    if head is not None:
        out.append("open")
    return out


def feed(reader: Reader, pieces: Iterable[bytes], method: str | None = "GET") -> list[Event]:
    events: list[Event] = []
    for piece in pieces:
        for event in reader.feed(piece):
            events.append(event)
            if isinstance(reader, ResponseReader) and isinstance(event, ResponseHead):
                reader.answers(method)
    return events


def bytewise(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


NEXT_REQUEST = b"GET /next HTTP/1.1\r\n\r\n"
NEXT_RESPONSE = b"HTTP/1.1 299 Next\r\nContent-Length: 0\r\n\r\n"


def requests(data: bytes, expected: list[Message | str]) -> None:
    assert messages(feed(RequestReader(), [data])) == expected
    assert messages(feed(RequestReader(), bytewise(data))) == expected
    following = messages(feed(RequestReader(), [data + NEXT_REQUEST]))
    assert following == [*expected, ("GET /next", [], b"", [])]


def responses(
    data: bytes, expected: list[Message | str], method: str | None = "GET", *, delimited: bool = True
) -> None:
    for pieces in ([data], bytewise(data)):
        reader = ResponseReader()
        events = feed(reader, pieces, method)
        assert messages([*events, *reader.eof()]) == expected
    if delimited:
        following = messages(feed(ResponseReader(), [data + NEXT_RESPONSE], method))
        assert following == [*expected, ("299 Next", [("Content-Length", "0")], b"", [])]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", ("GET /", [], b"", [])),
        (b"GET / HTTP/1.0\r\nA: b\r\n\r\n", ("GET /", [("A", "b")], b"", [])),
        (b"GET http://h:1/p?q=1#f HTTP/1.1\r\n\r\n", ("GET http://h:1/p?q=1#f", [], b"", [])),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", ("OPTIONS *", [], b"", [])),
        (b"CONNECT h:443 HTTP/1.1\r\n\r\n", ("CONNECT h:443", [], b"", [])),
        (b"M-SEARCH /caf\xc3\xa9 HTTP/1.1\r\n\r\n", ("M-SEARCH /caf\xc3\xa9", [], b"", [])),
        (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", ("GET /", [], b"", [])),
        (b"\n\r\nGET / HTTP/1.1\nA:b\n\n", ("GET /", [("A", "b")], b"", [])),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", ("POST /", [("Content-Length", "5")], b"hello", [])),
        (b"POST / HTTP/1.1\r\ncontent-LENGTH:3\r\n\r\n\r\n\r", ("POST /", [("content-LENGTH", "3")], b"\r\n\r", [])),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 2, 2\r\nContent-Length: 02\r\n\r\nab",
            ("POST /", [("Content-Length", "2, 2"), ("Content-Length", "02")], b"ab", []),
        ),
        (
            b"GET / HTTP/1.1\r\nB: 1\r\nA: 2\r\nb:3\r\nB:\r\n\r\n",
            ("GET /", [("B", "1"), ("A", "2"), ("b", "3"), ("B", "")], b"", []),
        ),
        (b"GET / HTTP/1.1\r\nA:\t x y \t\r\n\r\n", ("GET /", [("A", "x y")], b"", [])),
        (b"GET / HTTP/1.1\r\nA : x\r\n\r\n", ("GET /", [("A", "x")], b"", [])),
        (b"GET / HTTP/1.1\r\nA: \xff\xfe\x80\r\n\r\n", ("GET /", [("A", "\xff\xfe\x80")], b"", [])),
        (b"GET / HTTP/1.1\r\nA: x\r\n  y\r\n\tz \r\nB: 1\r\n\r\n", ("GET /", [("A", "x y z"), ("B", "1")], b"", [])),
        (b"GET / HTTP/1.1\r\nA: b:c\r\n\r\n", ("GET /", [("A", "b:c")], b"", [])),
        (b"GET / HTTP/1.1\r\nA: x\ry\r\n\r\n", ("GET /", [("A", "x\ry")], b"", [])),
    ],
)
def test_requests(data: bytes, expected: Message) -> None:
    requests(data, [expected])


CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
TE = ("Transfer-Encoding", "chunked")


@pytest.mark.parametrize(
    ("body", "expected", "trailers"),
    [
        (b"0\r\n\r\n", b"", []),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello", []),
        (b'5;x=1;y="a;b"\r\nhello\r\n 1 ; z\r\n!\r\n000;last\r\n\r\n', b"hello!", []),
        (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"01234567890123456789", []),
        (b"5\nhello\n0\n\n", b"hello", []),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", []),
        (b"1\r\nx\r\n0\r\nExpires: now\r\nX-Sum: 1\r\n\r\n", b"x", [("Expires", "now"), ("X-Sum", "1")]),
        (b"1\r\nx\r\n0\nA: b\n\n", b"x", [("A", "b")]),
    ],
)
def test_chunked_bodies(body: bytes, expected: bytes, trailers: list[tuple[str, str]]) -> None:
    requests(CHUNKED + body, [("POST /", [TE], expected, trailers)])


def test_transfer_encoding_overrides_content_length() -> None:
    data = b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    headers = [("Content-Length", "3"), ("Transfer-Encoding", "gzip, Chunked")]
    requests(data, [("POST /", headers, b"x", [])])


def test_pipelined_requests_in_order() -> None:
    data = b"".join(b"POST /%d HTTP/1.1\r\nContent-Length: 1\r\n\r\n%d" % (index, index) for index in range(9))
    requests(data, [(f"POST /{index}", [("Content-Length", "1")], b"%d" % index, []) for index in range(9)])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", ("200 OK", [("Content-Length", "2")], b"ab", [])),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ("200 OK", [("Content-Length", "0")], b"", [])),
        (b"HTTP/1.1 204 No Content\r\n\r\n", ("204 No Content", [], b"", [])),
        (b"HTTP/1.1 304 \r\nContent-Length: 9\r\n\r\n", ("304 ", [("Content-Length", "9")], b"", [])),
        (b"HTTP/1.1 204\r\nTransfer-Encoding: chunked\r\n\r\n", ("204 ", [TE], b"", [])),
        (b"HTTP/1.1 999 \xe4\r\nContent-Length: 0\r\n\r\n", ("999 \xe4", [("Content-Length", "0")], b"", [])),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", ("200 OK", [TE], b"x", [])),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nz",
            ("200 OK", [("Content-Length", "1")], b"z", []),
        ),
    ],
)
def test_responses(data: bytes, expected: Message) -> None:
    responses(data, [expected])
    responses(data, [expected], None)


@pytest.mark.parametrize("framing", [b"Content-Length: 500", b"Transfer-Encoding: chunked"])
def test_responses_to_head_have_no_body(framing: bytes) -> None:
    name, value = framing.decode().split(": ")
    responses(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n", [("200 OK", [(name, value)], b"", [])], "HEAD")


@pytest.mark.parametrize("head", [b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"])
def test_close_delimited_responses_end_with_the_connection(head: bytes) -> None:
    for pieces in ([head + b"all the rest\r\n\r\n"], bytewise(head + b"all the rest\r\n\r\n")):
        reader = ResponseReader()
        assert messages(feed(reader, pieces)) == ["open"]
        (end,) = reader.eof()
        assert isinstance(end, End)
        assert (end.body, end.truncated) == (b"all the rest\r\n\r\n", False)


def test_a_close_delimited_response_that_was_left_is_truncated() -> None:
    reader = ResponseReader()
    feed(reader, [b"HTTP/1.0 200 OK\r\n\r\nsome"])
    (end,) = reader.eof(clean=False)
    assert isinstance(end, End)
    assert (end.body, end.truncated) == (b"some", True)


@pytest.mark.parametrize(
    ("head", "method"),
    [
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", "GET"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "CONNECT"),
    ],
)
def test_after_an_upgrade_the_bytes_are_not_http(head: bytes, method: str) -> None:
    for pieces in ([head + NEXT_RESPONSE], bytewise(head + NEXT_RESPONSE)):
        reader = ResponseReader()
        events = feed(reader, [*pieces, NEXT_RESPONSE], method)
        assert len(messages([*events, *reader.gap(5), *reader.eof()])) == 1


def test_a_refused_connect_goes_on_as_http() -> None:
    responses(
        b"HTTP/1.1 407 No\r\nContent-Length: 1\r\n\r\nx", [("407 No", [("Content-Length", "1")], b"x", [])], "CONNECT"
    )


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_after_the_response_to_an_unseen_request_the_acknowledgement_number_tells_a_head_from_a_body(size: int) -> None:
    """The response to HEAD has no body. The next response acknowledges another request."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"

    def read(first: bytes, second: bytes, ack: int) -> list[Message | str]:
        reader = ResponseReader()
        events = list(reader.feed(first, ack=10))
        for at in range(0, len(second), size):
            events += reader.feed(second[at : at + size], ack=ack)
        return messages([*events, *reader.eof()])

    assert read(head % 500, NEXT_RESPONSE, 20) == [("200 OK", [("Content-Length", "500")], b"", []), *NEXT_ANSWER]
    length = [("Content-Length", str(len(NEXT_RESPONSE)))]
    for ack, body in ((10, NEXT_RESPONSE), (20, b"HTTP/1.1 is a protocol of which many".ljust(len(NEXT_RESPONSE)))):
        assert read(head % len(body), body, ack) == [("200 OK", length, body, [])]
    begun = b"HTTP/1.1 20"
    assert read(head % 500, begun, 20) == [("200 OK!", [("Content-Length", "500")], begun, [])]


def test_a_loss_after_a_beginning_that_may_be_a_head_costs_only_the_body() -> None:
    reader = ResponseReader()
    events = [*reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", ack=10), *reader.feed(b"HTTP", ack=20)]
    events += [*reader.gap(5), *reader.feed(NEXT_RESPONSE, ack=30)]
    assert messages(events) == [("200 OK!", [("Content-Length", "9")], b"HTTP", []), *NEXT_ANSWER]


def parts(events: Iterable[Event]) -> list[tuple[str, str | None]]:
    """(reason, line) of each malformed part."""
    return [(part.reason, part.line) for event in events if isinstance(event, End) for part in event.outcome.malformed]


NEXT: list[Message | str] = [("GET /next", [], b"", [])]


@pytest.mark.parametrize(
    "bad",
    [
        b"\x00\x01\x02\x03",
        b"hello\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET /x HTTP/x\r\n\r\n",
        b"G@T / HTTP/1.1\r\n\r\n",
    ],
)
def test_bytes_that_are_no_request_are_told_once_with_their_first_line(bad: bytes) -> None:
    unreadable: list[Message | str] = [(" !", [], b"", []), "lost"]
    events = feed(RequestReader(), [bad, NEXT_REQUEST])
    assert messages(events) == [*unreadable, *NEXT]
    line = bad.partition(b"\r\n")[0].decode("latin-1")
    assert parts(events) == [("not a start line", line)]
    assert messages(feed(RequestReader(), [*bytewise(bad), NEXT_REQUEST])) == [*unreadable, *NEXT]
    assert messages(feed(RequestReader(), [NEXT_REQUEST + bad, NEXT_REQUEST])) == [*NEXT, *unreadable, *NEXT]
    assert messages(feed(RequestReader(), [bad + NEXT_REQUEST, NEXT_REQUEST])) == [*unreadable, *NEXT]


@pytest.mark.parametrize(
    "field",
    [
        b"Content-Length: -1",
        b"Content-Length: +1",
        b"Content-Length: 1_0",
        b"Content-Length: \xb2",
        b"Content-Length: ",
        b"Content-Length: 1\r\nContent-Length: 2",
        b"Content-Length: 1, 2",
        b"Content-Length: " + b"9" * 5000,
        b"Transfer-Encoding: gzip",
        b"Transfer-Encoding: chunked, gzip",
    ],
)
def test_a_request_whose_end_cannot_be_known_is_told_and_what_follows_is_passed_over(field: bytes) -> None:
    bad = b"POST /p HTTP/1.1\r\n" + field + b"\r\n\r\n"
    for pieces in ([bad], bytewise(bad), [bad + NEXT_REQUEST]):
        events = feed(RequestReader(), [*pieces, NEXT_REQUEST])
        told, lost, *following = messages(events)
        assert (told[0], lost, following) == ("POST /p!", "lost", NEXT)
        [end, _] = [event for event in events if isinstance(event, End)]
        assert end.outcome.kind == "unparsable"
        assert [part.line for part in end.outcome.malformed] == ["POST /p HTTP/1.1"]


@pytest.mark.parametrize(
    ("bad", "reason", "line"),
    [
        (b"GET /a b HTTP/1.1\r\nA: b\r\n\r\n", "a malformed start line", "GET /a b HTTP/1.1"),
        (b"GET  /a b HTTP/1.1 \r\nA: b\r\n\r\n", "a malformed start line", "GET  /a b HTTP/1.1 "),
        (b"GET /a b HTTP/2.0\r\nA: b\r\n\r\n", "a malformed start line", "GET /a b HTTP/2.0"),
        (b"GET /a b http/1.1\r\nA: b\r\n\r\n", "a malformed start line", "GET /a b http/1.1"),
        (b"GET /a b HTTP/2\r\nA: b\r\n\r\n", "a malformed start line", "GET /a b HTTP/2"),
        (b"GET /a\0b HTTP/1.1\r\nA: b\r\n\r\n", "a malformed start line", "GET /a\0b HTTP/1.1"),
        (b"GET /a%20b HTTP/1.1\r\n: x\r\nA: b\r\n\r\n", "an invalid field name", ": x"),
        (b"GET /a%20b HTTP/1.1\r\nA: b\r\nno colon\r\n\r\n", "a field line without a colon", "no colon"),
        (b"GET /a%20b HTTP/1.1\r\nbad name: x\r\nA: b\r\n\r\n", "an invalid field name", "bad name: x"),
        (b"GET /a%20b HTTP/1.1\r\n fold: x\r\nA: b\r\n\r\n", "a field line that begins with a blank", " fold: x"),
    ],
)
def test_a_line_that_is_malformed_costs_neither_its_message_nor_the_next(bad: bytes, reason: str, line: str) -> None:
    target = "/a%20b" if b"%20" in bad else "/a\0b" if b"\0" in bad else "/a b"
    requests(bad, [(f"GET {target}", [("A", "b")], b"", [])])
    [end] = [event for event in feed(RequestReader(), [bad]) if isinstance(event, End)]
    assert (end.outcome.kind, parts([end])) == ("complete", [(reason, line)])


@pytest.mark.parametrize("piece", [1 << 20, 1000, 7919])
@pytest.mark.parametrize("size", [70_000, 300_000])
def test_a_head_over_the_limit_is_told_with_its_first_fields_and_its_body(size: int, piece: int) -> None:
    fields = b"Host: h\r\n" + b"".join(b"X-%d: %s\r\n" % (number, b"v" * 80) for number in range(size // 88))
    head = b"POST /huge HTTP/1.1\r\n" + fields + b"Content-Length: 5\r\n\r\n"
    sent = head + b"hello" + NEXT_REQUEST
    reader, most = RequestReader(), 0
    events: list[Event] = []
    for at in range(0, len(sent), piece):
        events += reader.feed(sent[at : at + piece], seq=at)
        most = max(most, reader.held)
    huge, following = messages(events)
    assert not isinstance(huge, str)
    assert (huge[0], huge[2], following) == ("POST /huge", b"hello", NEXT[0])
    assert [name for name, _ in huge[1][:3]] == ["Host", "X-0", "X-1"]
    assert huge[1][-1] == ("Content-Length", "5")
    assert sum(len(name) + len(value) for name, value in huge[1]) <= 64 * 1024
    start, end = events[:2]
    assert isinstance(start, RequestHead)
    assert isinstance(end, End)
    assert (start.size, end.seq) == (len(head), len(head) + 5)
    assert parts(events) == [("a head over 65536 octets", "POST /huge HTTP/1.1")]
    assert [event.outcome.kind for event in events if isinstance(event, End)] == ["unparsable", "complete"]
    assert most <= 2 * 64 * 1024


def test_one_field_over_the_limit_is_left_out() -> None:
    for piece in (1 << 20, 1000):
        sent = b"GET /x HTTP/1.1\r\nA: b\r\nX: " + b"y" * 70_000 + b"\r\n\r\n" + NEXT_REQUEST
        events = feed(RequestReader(), [sent[at : at + piece] for at in range(0, len(sent), piece)])
        assert messages(events) == [("GET /x", [("A", "b")], b"", []), *NEXT]


@pytest.mark.parametrize("size", [1000, 7919, 66_000, 1 << 20])
@pytest.mark.parametrize("fields", [b"A: b\r\n", b"".join(b"X-%d: y\r\n" % number for number in range(1000))])
def test_of_a_target_over_the_limit_the_middle_is_left_out_and_nothing_else_is(size: int, fields: bytes) -> None:
    sent = b"GET /" + b"y" * 70_000 + b"?end HTTP/1.1\r\n" + fields + b"Content-Length: 2\r\n\r\nok" + NEXT_REQUEST
    events = feed(RequestReader(), [sent[at : at + size] for at in range(0, len(sent), size)])
    [first, following] = messages(events)
    assert (first[0], first[2], following) == ("GET /" + "y" * 4091 + "..." + "y" * 18 + "?end", b"ok", NEXT[0])
    assert len(first[1]) == fields.count(b"\n") + 1
    assert parts(events) == [("a head over 65536 octets", "GET /" + "y" * 251)]


@pytest.mark.parametrize(
    ("bad", "body"),
    [
        (b"xyz\r\n", b""),
        (b"-1\r\n", b""),
        (b"0x1\r\n", b""),
        (b"\r\n", b""),
        (b"11111111111111111\r\n", b""),
        (b"1\r\nabc\r\n", b"a"),
    ],
)
def test_a_malformed_chunked_body_ends_its_message_truncated(bad: bytes, body: bytes) -> None:
    expected = [("POST /!", [TE], body, []), "lost", ("GET /next", [], b"", [])]
    assert messages(feed(RequestReader(), [CHUNKED + bad, NEXT_REQUEST])) == expected
    assert messages(feed(RequestReader(), [*bytewise(CHUNKED + bad), NEXT_REQUEST])) == expected


def test_an_invalid_trailer_line_is_left_out() -> None:
    sent = CHUNKED + b"1\r\na\r\n0\r\nno trailer\r\nA: b\r\n\r\n"
    requests(sent, [("POST /", [TE], b"a", [("A", "b")])])
    assert parts(feed(RequestReader(), [sent])) == [("a field line without a colon", "no trailer")]


NEXT_ANSWER: list[Message | str] = [("299 Next", [("Content-Length", "0")], b"", [])]


@pytest.mark.parametrize(
    "bad",
    [
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"the rest of a body\r\n",
    ],
)
def test_bytes_that_are_no_response_are_told_once_with_their_first_line(bad: bytes) -> None:
    told: list[Message | str] = [("0 !", [], b"", []), "lost"]
    assert messages(feed(ResponseReader(), [bad, NEXT_RESPONSE])) == [*told, *NEXT_ANSWER]
    assert messages(feed(ResponseReader(), [*bytewise(bad), NEXT_RESPONSE])) == [*told, *NEXT_ANSWER]
    line = bad.partition(b"\r\n")[0].decode()
    assert parts(feed(ResponseReader(), [bad])) == [("not a start line", line)]


def test_a_status_line_with_two_blanks_is_read() -> None:
    bad = b"HTTP/1.1  200  OK\r\nContent-Length: 1\r\n\r\nx"
    responses(bad, [("200 OK", [("Content-Length", "1")], b"x", [])])


@pytest.mark.parametrize("coding", [b"identity", b"Identity,", b"identity\r\nTransfer-Encoding: identity"])
def test_the_coding_identity_changes_nothing(coding: bytes) -> None:
    sent = b"POST / HTTP/1.1\r\nTransfer-Encoding: " + coding + b"\r\nContent-Length: 2\r\n\r\nhi"
    [end] = [event for event in feed(RequestReader(), [sent]) if isinstance(event, End)]
    assert (end.body, end.truncated, end.outcome.kind) == (b"hi", False, "complete")


@pytest.mark.parametrize("coding", [b"chunked,", b", chunked", b"chunked , ,", b"identity, chunked"])
def test_empty_elements_of_a_list_do_not_count(coding: bytes) -> None:
    sent = b"POST / HTTP/1.1\r\nTransfer-Encoding: " + coding + b"\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    [end] = [event for event in feed(RequestReader(), [sent]) if isinstance(event, End)]
    assert (end.body, end.truncated) == (b"hi", False)


def test_out_of_step_a_message_begins_only_where_a_segment_does() -> None:
    reader = RequestReader(in_step=False)
    assert feed(reader, [b"rest of a body", b"xGET / HTTP/1.1\r\n\r\n", b"GET", b"GET /"]) != []
    reader = RequestReader(in_step=False)
    assert feed(reader, [b"rest of a body " + NEXT_REQUEST, b"GET", b"GET nowhere"]) == []
    assert messages(feed(reader, [NEXT_REQUEST])) == [("GET /next", [], b"", [])]


def test_out_of_step_a_long_target_may_need_more_than_a_segment() -> None:
    reader = RequestReader(in_step=False)
    target = b"/" + b"x" * 3000
    assert messages(feed(reader, [b"GET " + target, b"y HTTP/1.1\r\n\r\n"])) == [
        (f"GET {target.decode()}y", [], b"", [])
    ]


def test_a_gap_within_a_body_of_known_length_costs_only_the_body() -> None:
    reader = RequestReader()
    events = feed(reader, [b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"])
    events += reader.gap(4)
    events += feed(reader, [b"hij" + NEXT_REQUEST])
    end = events[1]
    assert isinstance(end, End)
    assert (end.body, end.size, end.truncated) == (b"abc", 10, True)
    assert messages(events)[1:] == [("GET /next", [], b"", [])]


def test_a_gap_that_is_the_rest_of_a_body_ends_it() -> None:
    reader = RequestReader()
    events = feed(reader, [b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"])
    events += reader.gap(7)
    assert messages([*events, *feed(reader, [NEXT_REQUEST])]) == [
        ("POST /!", [("Content-Length", "10")], b"abc", []),
        ("GET /next", [], b"", []),
    ]


@pytest.mark.parametrize("size", [3, 5])
def test_a_gap_within_a_chunk_costs_only_the_body(size: int) -> None:
    reader = RequestReader()
    events = feed(reader, [CHUNKED + b"a\r\n01234"])
    events += reader.gap(size)
    events += feed(reader, [b"56789"[size:] + b"\r\n0\r\n\r\n" + NEXT_REQUEST])
    assert messages(events) == [("POST /!", [TE], b"01234", []), ("GET /next", [], b"", [])]
    end = events[1]
    assert isinstance(end, End)
    assert end.size == 10


def test_a_gap_in_a_close_delimited_body_is_counted() -> None:
    reader = ResponseReader()
    events = feed(reader, [b"HTTP/1.0 200 OK\r\n\r\nabc"])
    events += reader.gap(100)
    events += feed(reader, [b"def"])
    (end,) = reader.eof()
    assert isinstance(end, End)
    assert (end.body, end.size, end.truncated) == (b"abc", 106, True)


@pytest.mark.parametrize(
    ("before", "size"),
    [
        (b"", 10),
        (b"GET / HT", 10),
        (b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc", 8),
        (b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc", None),
        (CHUNKED + b"5\r\nab", 4),
        (CHUNKED + b"5", 1),
        (CHUNKED + b"1\r\nx", 1),
    ],
)
def test_any_other_gap_falls_out_of_step_and_recovers(before: bytes, size: int | None) -> None:
    reader = RequestReader()
    events = [*feed(reader, [before] if before else []), *reader.gap(size), *feed(reader, [b"rest", NEXT_REQUEST])]
    assert messages(events)[-2:] == ["lost", ("GET /next", [], b"", [])]
    assert all(message[0].endswith("!") for message in messages(events)[:-2])


def test_the_size_of_a_body_whose_end_is_lost_is_what_its_length_said() -> None:
    reader = RequestReader()
    events = [*feed(reader, [b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"]), *reader.gap(50)]
    end = events[1]
    assert isinstance(end, End)
    assert (end.body, end.size, end.truncated) == (b"abc", 10, True)


@pytest.mark.parametrize("pieces", [1, 7, 1000])
def test_a_body_over_the_limit_is_cut_but_counted(pieces: int) -> None:
    for framing, body in (
        (b"Content-Length: 5000", b"z" * 5000),
        (
            b"Transfer-Encoding: chunked",
            b"3e8\r\n" + b"z" * 1000 + b"\r\n" + b"fa0\r\n" + b"z" * 4000 + b"\r\n0\r\n\r\n",
        ),
    ):
        data = b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n" + body + NEXT_REQUEST
        reader = RequestReader(body_limit=1234)
        step = len(data) // pieces
        events = feed(reader, [data[at : at + step] for at in range(0, len(data), step)])
        end = events[1]
        assert isinstance(end, End)
        assert (len(end.body), end.size, end.truncated) == (1234, 5000, True)
        assert len(messages(events)) == 2


@pytest.mark.parametrize("line", [b"A: " + b"x" * 3000 + b"\r\n\r\n", b"A: 1\r\n" * 600 + b"\r\n"])
def test_a_head_over_the_limit_costs_bounded_memory_in_any_pieces(line: bytes) -> None:
    data = b"GET / HTTP/1.1\r\n" + line
    for pieces in ([data], bytewise(data), [data[:2000], data[2000:]]):
        reader = RequestReader(head_limit=1000)
        for piece in pieces:
            events = feed(reader, [piece])
            assert reader.held <= 2000
        assert messages(events)[0][0] == "GET /"
        assert messages(feed(reader, [NEXT_REQUEST])) == [("GET /next", [], b"", [])]


def test_lines_about_the_body_cannot_be_kept_without_end() -> None:
    reader = RequestReader(head_limit=1000)
    head = b"GET / HTTP/1.1\r\n" + b"Content-Length: 1\r\n" * 100
    assert messages(feed(reader, bytewise(head)))[-1] == "lost"
    assert reader.held == 0


def test_times_and_numbers_are_those_of_the_messages_own_segments() -> None:
    reader = RequestReader()
    events = [
        *reader.feed(b"\r\nPO", 10, 100, 7),
        *reader.feed(b"ST / HTTP/1.1\r\nContent-Length: 2\r\n\r\na", 20, 104, 8),
    ]
    events += reader.feed(b"bGET /2 HTTP/1.1\r\n\r\n", 30, 142, 9)
    first, end, second, last = events
    assert isinstance(first, RequestHead)
    assert isinstance(second, RequestHead)
    assert isinstance(end, End)
    assert isinstance(last, End)
    assert (first.ts, first.seq, first.ack) == (10, 102, 7)
    assert (end.ts, end.seq) == (30, 143)
    assert (second.ts, second.seq, second.ack) == (30, 143, 9)
    assert last.seq == 142 + 20


def test_numbers_behind_a_head_that_came_in_pieces() -> None:
    reader = RequestReader()
    events = [*reader.feed(b"GET / HT", 10, 100, 7), *reader.feed(b"TP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n", 20, 108, 8)]
    first, end, second, _ = events
    assert isinstance(first, RequestHead)
    assert isinstance(end, End)
    assert isinstance(second, RequestHead)
    assert (first.ts, first.seq, end.seq, second.ts, second.seq, second.ack) == (10, 100, 118, 20, 118, 8)


def test_a_gap_in_the_body_of_an_answer_to_an_unseen_request_costs_only_the_body() -> None:
    reader = ResponseReader()
    events = feed(reader, [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"], None)
    events += reader.gap(4)
    events += feed(reader, [b"56789", NEXT_RESPONSE], None)
    assert [message[0] for message in messages(events)] == ["200 OK!", "299 Next"]


def test_a_response_begins_with_its_first_interim_response() -> None:
    reader = ResponseReader()
    events = [*reader.feed(b"HTTP/1.1 100 Continue\r\n\r\n", 10, 500, 7), *reader.feed(NEXT_RESPONSE, 20, 525, 8)]
    head = events[0]
    assert isinstance(head, ResponseHead)
    assert (head.ts, head.seq, head.ack) == (10, 500, 7)


def test_a_line_of_blanks_costs_linear_time() -> None:
    """Ambiguous quantifiers would take minutes for this one; the suite would not end."""
    data = b"GET / HTTP/1.1\r\nA:" + b" " * 60_000 + b"\rx\r\n\r\n"
    assert messages(feed(RequestReader(), [data])) == [("GET /", [("A", "\rx")], b"", [])]


HEAD_BYTES = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n",
        b"A: b\r\n",
        b" x\r\n",
        b"\n",
        b"\r",
        b"abc",
    ]
)


@given(
    st.lists(st.one_of(HEAD_BYTES, st.binary(max_size=10)), max_size=40),
    st.booleans(),
    st.booleans(),
    st.lists(st.integers(0, 30), max_size=3),
)
@example([b"GET / HTTP/1.1\r\n", b"Content-Length: 3\r\n", b"\r\n"], True, True, [2])
def test_any_bytes_never_raise_and_memory_stays_bounded(
    pieces: list[bytes], client: bool, in_step: bool, gaps: list[int]
) -> None:
    """Invariant: whatever the bytes, heads and ends alternate, nothing raises, no more than the limits is held."""
    kind = RequestReader if client else ResponseReader
    reader: Reader = kind(in_step=in_step, head_limit=64, body_limit=16)
    events: list[Event] = []
    for index, piece in enumerate(pieces):
        events += feed(reader, [piece], None)
        if index in gaps:
            events += reader.gap(index or None)
        assert reader.held <= 2 * 64 + 16
    events += reader.eof()
    assert "open" not in messages(events)


@given(st.binary(max_size=200), st.data())
def test_cutting_changes_no_message(body: bytes, data: st.DataObject) -> None:
    """Invariant: a stream that is read from its start gives the same messages however it is cut."""
    chunks = [body[at : at + 17] for at in range(0, len(body), 17)]
    coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nT: 1\r\n\r\n"
    stream = b"POST /1 HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body) + CHUNKED + coded + NEXT_REQUEST
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert messages(feed(RequestReader(), pieces)) == messages(feed(RequestReader(), [stream]))
    assert [message[2] for message in messages(feed(RequestReader(), pieces))] == [body, body, b""]
