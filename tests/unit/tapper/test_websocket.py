"""Frames become messages: fragmented, interleaved with control frames, compressed, cut, hostile."""

from __future__ import annotations

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tapper_wire import Capture, Wire, ok
from tapper_wire import brief as brief_exchange

from tapper.output.ndjson import Ndjson
from tapper.output.records import Place
from tapper.output.text import Text
from tapper.protocols.facts import WebSocketMessage
from tapper.protocols.messages import BODY_LIMIT
from tapper.protocols.records import FactRecord
from tapper.protocols.websocket import BINARY, CLOSE, CONTINUATION, PING, TEXT, WebSocket
from tapper.streams.connection import Leg
from tapper.streams.legs import Direction, Endpoint
from tapper.streams.reassembly import Data

MASK = b"\x01\xfe\x80\x7f"
DEFLATE = (("Sec-WebSocket-Extensions", "permessage-deflate"),)
FRESH = (("sec-websocket-extensions", "permessage-deflate; client_no_context_takeover; server_no_context_takeover"),)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = False, rsv: int = 0) -> bytes:
    size = len(payload)
    head = bytes([fin << 7 | rsv << 4 | opcode])
    short = size if size < 126 else 126 if size < 65536 else 127
    head += bytes([masked << 7 | short])
    head += size.to_bytes({126: 2, 127: 8}[short], "big") if short > 125 else b""
    if masked:
        return head + MASK + bytes(byte ^ MASK[index % 4] for index, byte in enumerate(payload))
    return head + payload


class Deflater:
    """What a sender does (RFC 7692 section 7.2.1)."""

    def __init__(self) -> None:
        self._engine = zlib.compressobj(wbits=-15)

    def __call__(self, data: bytes) -> bytes:
        return (self._engine.compress(data) + self._engine.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


def read(
    sent: bytes, side: int = 1, step: int = 1 << 20, headers: tuple[tuple[str, str], ...] = ()
) -> list[WebSocketMessage]:
    socket = WebSocket(0, headers)
    out: list[WebSocketMessage] = []
    for at in range(0, len(sent), step):
        out += socket.data(side, Data(sent[at : at + step], at, 0, 0))
    out += socket.finish()
    assert socket.held == 0
    return out


def brief(messages: list[WebSocketMessage]) -> list[tuple[int, bytes, bool]]:
    return [(it.opcode, it.body, it.truncated) for it in messages]


@pytest.mark.parametrize("step", [1, 3, 1 << 20])
@pytest.mark.parametrize("masked", [True, False])
def test_messages_in_any_pieces(step: int, masked: bool) -> None:
    sent = [
        frame(TEXT, b"hello", masked=masked),
        frame(TEXT, masked=masked),
        frame(BINARY, b"x" * 300, fin=False, masked=masked),
        frame(PING, b"in between", masked=masked),
        frame(CONTINUATION, b"", fin=False, masked=masked),
        frame(CONTINUATION, b"yz", masked=masked),
        frame(CLOSE, b"\x03\xe8bye", masked=masked),
    ]
    assert brief(read(b"".join(sent), 0 if masked else 1, step)) == [
        (TEXT, b"hello", False),
        (TEXT, b"", False),
        (PING, b"in between", False),
        (BINARY, b"x" * 300 + b"yz", False),
        (CLOSE, b"\x03\xe8bye", False),
    ]


def test_long_messages_are_measured_whole() -> None:
    (message,) = read(frame(BINARY, b"x" * 70000, masked=True), 0, 1000)
    assert (len(message.body), message.size, message.truncated) == (BODY_LIMIT, 70000, True)
    assert message.body == b"x" * BODY_LIMIT


@pytest.mark.parametrize("headers", [DEFLATE, FRESH])
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_compressed_messages(headers: tuple[tuple[str, str], ...], step: int) -> None:
    deflate, sent = Deflater(), b""
    for word in (b"hello hello hello", b"hello hello hello again", b""):
        deflate = Deflater() if headers is FRESH else deflate
        sent += frame(TEXT, deflate(word), rsv=4, masked=True)
    sent += frame(TEXT, b"plain", masked=True)
    assert [it.body for it in read(sent, 0, step, headers)] == [
        b"hello hello hello",
        b"hello hello hello again",
        b"",
        b"plain",
    ]


def test_a_message_that_inflates_to_much_is_bounded() -> None:
    deflate = Deflater()
    bomb = deflate(bytes(64 << 20))
    first, second = read(frame(BINARY, bomb, rsv=4) + frame(BINARY, deflate(b"next"), rsv=4), 1, 1 << 20, DEFLATE)
    assert (len(first.body), first.truncated, first.deflated) == (BODY_LIMIT, True, False)
    assert first.size < 5 << 20
    assert second.deflated


def test_a_message_that_cannot_be_inflated_is_shown_compressed() -> None:
    deflate = Deflater()
    one, two = frame(TEXT, deflate(b"hello" * 9), rsv=4), frame(TEXT, deflate(b"hello" * 9 + b"!"), rsv=4)
    socket = WebSocket(0, DEFLATE)
    assert socket.data(1, Data(one[:4], 1, 0, 0)) == []
    (lost,) = socket.gap(1, len(one) - 4)
    (message,) = socket.data(1, Data(two, 2, 0, 0))
    assert (lost.truncated, lost.deflated) == (True, False)
    assert (message.deflated, message.body) == (True, two[2:])


def test_a_sender_that_begins_afresh_can_be_read_after_a_hole() -> None:
    one, two = (frame(TEXT, Deflater()(word * 9), rsv=4) for word in (b"hello", b"again"))
    socket = WebSocket(0, FRESH)
    socket.data(1, Data(one[:6], 1, 0, 0))
    assert [it.truncated for it in socket.gap(1, len(one) - 6)] == [True]
    assert brief(socket.data(1, Data(two, 2, 0, 0))) == [(TEXT, b"again" * 9, False)]


def test_a_hole_in_a_payload_costs_that_message() -> None:
    socket = WebSocket(0, ())
    whole = frame(TEXT, b"0123456789")
    assert socket.data(1, Data(whole[:4], 1, 0, 0)) == []
    assert socket.gap(1, 3) == []
    messages = socket.data(1, Data(whole[7:] + frame(TEXT, b"next"), 2, 0, 0))
    assert [(it.body, it.size, it.truncated) for it in messages] == [(b"01", 10, True), (b"next", 4, False)]


@pytest.mark.parametrize("size", [None, 100])
def test_lost_frames_end_the_reading_of_that_side(size: int | None) -> None:
    socket = WebSocket(0, ())
    assert brief(socket.gap(1, size)) == [(CONTINUATION, b"", True)]
    assert socket.gap(1, size) == socket.data(1, Data(frame(TEXT, b"no"), 1, 0, 0)) == []
    assert brief(socket.data(0, Data(frame(TEXT, b"yes", masked=True), 1, 0, 0))) == [(TEXT, b"yes", False)]


@pytest.mark.parametrize(
    "bad",
    [
        frame(3),
        frame(TEXT, rsv=1),
        frame(TEXT, rsv=4),
        frame(TEXT, masked=True),
        frame(PING, fin=False),
        frame(PING, b"x" * 126),
        frame(CONTINUATION, b"of nothing"),
        frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"),
    ],
)
def test_a_frame_that_breaks_the_rules_ends_the_reading(bad: bytes) -> None:
    messages = read(frame(TEXT, b"good") + bad + frame(TEXT, b"never"))
    assert messages[0].body == b"good"
    assert [it.truncated for it in messages] == [False, True]


FRAMES = st.builds(
    lambda opcode, payload, fin, masked, rsv: frame(opcode, payload, fin=fin, masked=masked, rsv=rsv),
    st.sampled_from([0, 1, 2, 8, 9, 3]),
    st.binary(max_size=200),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 0, 4, 1]),
)


@given(
    st.lists(st.tuples(st.integers(0, 1), st.one_of(FRAMES, st.binary(max_size=60)), st.integers(0, 90)), max_size=20),
    st.booleans(),
)
def test_no_bytes_make_it_raise_or_grow(sent: list[tuple[int, bytes, int]], deflate: bool) -> None:
    """Whatever comes, held is bounded, and nothing is held at the end."""
    socket = WebSocket(0, DEFLATE if deflate else ())
    for side, piece, gap in sent:
        if gap > 80:
            socket.gap(side, gap - 81 or None)
        socket.data(side, Data(piece, 1, 0, 0))
        assert socket.held <= 2 * (BODY_LIMIT + 200 + 48 * 1024), "bodies, headers, and zlib's windows"
    socket.finish()
    assert socket.held == 0


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("payload", [b"", b"abcd", b"abcde"])
def test_short_messages_that_are_too_many_in_a_segment_are_counted(payload: bytes, masked: bool) -> None:
    """Those behind them are read as ever."""
    short = frame(TEXT, payload, masked=masked)
    sent = short * 2000 + frame(CLOSE, masked=masked)
    socket = WebSocket(0, ())
    side = 0 if masked else 1
    messages = socket.data(side, Data(sent, 1, 0, 0))
    assert 64 <= len(messages) < 64 + len(sent) // 16
    assert {(it.opcode, it.body) for it in messages} == {(TEXT, payload)}
    assert len(messages) + messages[-1].left_out == 2001
    later = socket.data(side, Data(frame(TEXT, b"later", masked=masked), 2, 0, 0))
    assert brief(later) == [(TEXT, b"later", False)]
    leg = Leg("10.0.0.2", Direction.INBOUND, Endpoint(bytes(4), 1), Endpoint(bytes(4), 2))
    line = json.loads(Ndjson().fact(Place("file", None, "lo"), FactRecord(leg, messages[-1])))
    assert line["left_out"] == messages[-1].left_out


@pytest.mark.parametrize("step", [1, 10_000])
def test_after_an_upgrade(step: int) -> None:
    it = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
    asked = b"GET /chat HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"
    got = b"HTTP/1.1 101 S\r\nUpgrade: WebSocket\r\n\r\n" + frame(TEXT, b"welcome\x1b")
    packets = [*it.handshake(), it.ask(asked), *(it.answer(got[at : at + step]) for at in range(0, len(got), step))]
    sent = frame(BINARY, b"\x00\x01", masked=True) + frame(TEXT, "h\u00e9".encode(), masked=True)
    packets += [it.ask(sent[at : at + step]) for at in range(0, len(sent), step)]
    capture = Capture().feed([*packets, *it.close()]).finish()
    assert [record.exchange.response and record.exchange.response.head.status for record in capture.seen] == [101]
    assert capture.records == [*capture.seen, *capture.facts], "the 101 comes before the frame in its segment"
    place = Place("pod", 1, "lo")
    records = [json.loads(Ndjson().fact(place, record)) for record in capture.facts]
    assert [(record["type"], record["from"], record["text"], record["preview_b64"]) for record in records] == [
        ("websocket", "server", "welcome\x1b", None),
        ("websocket", "client", None, "AAE="),
        ("websocket", "client", "h\u00e9", None),
    ]
    assert (records[0]["src"], records[0]["size"], records[0]["truncated"]) == ("127.0.0.6:40000", 8, False)
    assert Text().fact(place, capture.facts[0]).endswith("WebSocket text from server  8 B: welcome\\x1b\n")


def test_frames_that_are_lost_right_after_the_upgrade_have_its_time() -> None:
    it = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
    packets = [
        *it.handshake(),
        it.ask(b"GET / HTTP/1.1\r\n\r\n"),
        it.answer(b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n"),
    ]
    capture = Capture().feed(packets)
    upgraded = capture.ts
    it.answer(frame(TEXT, b"lost"))
    (record,) = capture.feed([it.answer(frame(TEXT, b"no")), it.client_ack()]).facts
    assert record.fact.ts == upgraded


def test_a_refused_upgrade_stays_http() -> None:
    it = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
    asked = b"GET /chat HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"
    capture = Capture().feed([*it.handshake(), it.ask(asked), it.answer(ok("no")), *it.exchange("/2", "b")]).finish()
    assert (capture.pairs, capture.facts) == ([("/chat", "no"), ("/2", "b")], [])


def test_an_upgrade_whose_response_ends_an_earlier_request() -> None:
    """The request was answered before its end came. The response of 101 ends it, so its exchange comes out last."""
    it = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
    packets = [
        *it.handshake(),
        it.ask(b"POST /long HTTP/1.1\r\nContent-Length: 50\r\n\r\nbegun"),
        it.answer(ok("early")),
        it.answer(b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n" + frame(TEXT, b"welcome")),
        it.answer(frame(TEXT, b"more")),
    ]
    capture = Capture().feed(packets).finish()
    assert [brief_exchange(record) for record in capture.seen] == [(None, ""), ("/long", "early")]
    assert [record.fact.body for record in capture.facts if isinstance(record.fact, WebSocketMessage)] == [
        b"welcome",
        b"more",
    ]
