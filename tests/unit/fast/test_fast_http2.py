"""The fast reader of HTTP/2 makes the exchanges that the plain one makes, whatever a connection carries or loses."""

from __future__ import annotations

import pytest
from h2_wire import END_HEADERS, END_STREAM, PADDED, PRIORITY, SETTINGS, Peer, Talk, data, frame, opening
from hypothesis import given, settings
from hypothesis import strategies as st

from tapper.fast.http2 import FastHttp2

CLIENT, SERVER = Peer(), Peer()
GRPC = ("content-type", "application/grpc")
CONVERSATION = [
    (0, opening()),
    (1, SETTINGS),
    (0, CLIENT.get(1, "/1", ("x", "y"))),
    (1, SERVER.ok(1, b"abc", ("x", "y"))),
    (0, frame(1, END_HEADERS | END_STREAM | PRIORITY, 13, bytes(5) + CLIENT.encoder.encode([(":path", "/13")]))),
    (1, SERVER.ok(13)),
    (0, CLIENT.headers(3, [(":method", "POST"), (":path", "/a/B"), GRPC], pad=3) + data(3, b"\0\0\0\0\3abc", end=True)),
    (1, frame(8, 0, 0, bytes(4)) + frame(6, 0, 0, bytes(8)) + SERVER.headers(3, [(":status", "200"), GRPC])),
    (1, data(3, b"\0\0\0\0\1", pad=5) + data(3, b"x") + SERVER.headers(3, [("grpc-status", "0")], end=True)),
    (0, CLIENT.continued(5, [(":method", "GET"), (":path", "/5"), ("x", "y")], 7, end=True)),
    (1, SERVER.continued(5, [(":status", "200"), ("x", "y")], 3) + data(5, b"body" * 9, end=True)),
    (0, CLIENT.get(7, "/7") + CLIENT.get(9, "/9", ("z", "new")) + CLIENT.get(11, "/11", ("z", "new"))),
    (1, frame(3, 0, 7, bytes(4)) + SERVER.ok(9, b"ok") + frame(7, 0, 0, b"\0\0\0\x09" + bytes(4))),
]
"""Who sends (0 is the client) and the bytes."""

flags = st.sampled_from(
    [0, END_STREAM, END_HEADERS, END_HEADERS | END_STREAM, END_HEADERS | PRIORITY, END_HEADERS | PADDED, PADDED]
)
blocks = [b"\x82\x84", b"\x88", b"\xbe", b"\x40\x01x\x01y"]
payloads = st.one_of(
    st.sampled_from([b"", *blocks, *(bytes(5) + block for block in blocks), b"\3\x88\0\0\0", bytes(4), bytes(8)]),
    st.binary(max_size=12),
)
kinds = st.one_of(st.sampled_from([0, 1, 1, 9]), st.integers(0, 10))
frames = st.builds(frame, kinds, flags, st.sampled_from([1, 1, 1, 3, 0, 1 << 31 | 1]), payloads)
segments = st.one_of(
    st.lists(frames, max_size=4).map(b"".join),
    st.binary(max_size=40),
    st.sampled_from([sent for _, sent in CONVERSATION]),
)
losses = st.sampled_from([None, 1, 3, 9, 40])


def hold_equal(
    events: list[tuple[int, bytes | int | None]], client: int | None, in_step: tuple[bool, bool], step: int
) -> None:
    """Feed both readers with segments, or the size of a loss, and require the same of both."""
    plain = Talk(client=client, in_step=in_step, step=step)
    fast = Talk(client=client, in_step=in_step, step=step, reader=FastHttp2)
    for side, event in events:
        for talk in (plain, fast):
            if isinstance(event, bytes):
                talk.say(side, event)
            else:
                talk.lose(side, event)
        assert fast.done == plain.done
        assert fast.held >= plain.held, "it also holds decoded blocks"
    assert fast.finish().done == plain.finish().done
    assert fast.http2.client == plain.http2.client
    assert fast.http2.heads == plain.http2.heads


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.one_of(segments, segments, losses)), max_size=15),
    st.sampled_from([0, 1, None]),
    st.tuples(st.booleans(), st.booleans()),
    st.sampled_from([1 << 20, 1 << 20, 1, 5]),
)
def test_any_connection(
    events: list[tuple[int, bytes | int | None]], client: int | None, in_step: tuple[bool, bool], step: int
) -> None:
    hold_equal(events, client, in_step, step)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from([1, 9, 30, 1 << 20]))
def test_a_conversation_that_is_joined_midway_and_loses_bytes(draws: st.DataObject, step: int) -> None:
    joined = draws.draw(st.integers(0, len(CONVERSATION) - 1))
    events: list[tuple[int, bytes | int | None]] = []
    for side, sent in CONVERSATION[joined:]:
        start, lost = draws.draw(st.tuples(st.integers(0, len(sent)), st.sampled_from([0, 0, 0, 1, 5, 30])))
        lost = min(lost, len(sent) - start)
        events += [(side, sent[:start]), (side, lost), (side, sent[start + lost :])] if lost else [(side, sent)]
    in_step = (joined < 1, joined < 2)
    hold_equal(events, 0 if draws.draw(st.booleans()) else None, in_step, step)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(frame(1, 0, 3, b"\x88") + data(1, b"x"), id="DATA within a header block"),
        pytest.param(frame(1, 0, 3, b"\x88") + frame(1, END_HEADERS, 1, b"\x88"), id="HEADERS within a header block"),
        pytest.param(frame(1, 0, 3, b"\x88") + frame(3, 0, 1, bytes(4)), id="RST_STREAM within a header block"),
        pytest.param(frame(1, 0, 3, b"\x88") + frame(8, 0, 0, bytes(4)), id="WINDOW_UPDATE within a header block"),
        pytest.param(frame(0, 0, 0, b"x"), id="DATA on stream 0"),
        pytest.param(frame(1, END_HEADERS, 0, b"\x88"), id="HEADERS on stream 0"),
        pytest.param(frame(0, PADDED, 1, b"\3x"), id="DATA shorter than its padding"),
        pytest.param(frame(1, END_HEADERS | PADDED, 1, b"\3x"), id="HEADERS shorter than its padding"),
        pytest.param(frame(3, 0, 1, bytes(5)), id="RST_STREAM of five octets"),
        pytest.param(frame(8, 0, 1, bytes(5)), id="WINDOW_UPDATE of five octets"),
    ],
)
def test_what_follows_a_wrong_frame_in_its_segment_is_not_read(wrong: bytes) -> None:
    rest = frame(1, END_HEADERS | END_STREAM, 1, b"\x88")
    hold_equal([(0, opening() + Peer().get(1, "/1")), (1, SETTINGS + wrong + rest)], 0, (True, True), 1 << 20)


def test_a_conversation_is_read_whole() -> None:
    """Else the other tests might hold equal two readers that see nothing."""
    talk = Talk(reader=FastHttp2)
    for side, sent in CONVERSATION:
        talk.say(side, sent)
    assert talk.pairs == [
        ("/1", 200, b"abc"),
        ("/13", 200, b""),
        ("/a/B", 200, b"\0\0\0\0\1x"),
        ("/5", 200, b"body" * 9),
        ("/7", None, None),
        ("/9", 200, b"ok"),
        ("/11", None, None),
    ]
    assert [exchange.incomplete for exchange in talk.done] == [None] * 7
