"""Streams become exchanges; what loss and a late start cost is said; memory stays bounded."""

from __future__ import annotations

import pytest
from h2_wire import SETTINGS, Fields, Peer, Talk, data, frame, opening
from hypothesis import given, settings
from hypothesis import strategies as st
from tapper_wire import Capture, Wire, endpoint

from tapper.protocols.blocks import TABLE_LIMIT
from tapper.protocols.facts import WebSocketMessage
from tapper.protocols.halves import BLOCK_UNSEEN, TABLE_UNKNOWN
from tapper.protocols.http2 import MOST_STREAMS
from tapper.protocols.messages import BODY_LIMIT
from tapper.streams.reassembly import Data

STEPS = pytest.mark.parametrize("step", [1, 2, 7, 1 << 20])


@STEPS
def test_streams_are_told_apart_in_any_order(step: int) -> None:
    client, server = Peer(), Peer()
    talk = Talk(step=step).ask(opening() + client.get(1, "/1") + client.get(3, "/3") + client.get(5, "/5"))
    answers = [server.headers(stream, [(":status", "200"), ("n", str(stream))]) for stream in (5, 1, 3)]
    talk.answer(SETTINGS + b"".join(answers))
    talk.answer(data(3, b"th") + data(1, b"one", end=True) + data(3, b"ree", end=True) + data(5, b"five", end=True))
    assert talk.pairs == [("/1", 200, b"one"), ("/3", 200, b"three"), ("/5", 200, b"five")]
    assert [each.response and each.response.head.headers for each in talk.done] == [(("n", n),) for n in "135"]
    assert [each.incomplete for each in talk.done] == [None] * 3
    assert talk.finish().pairs == talk.pairs[:3]


@STEPS
def test_everything_a_message_has(step: int) -> None:
    client, server = Peer(), Peer()
    sent = client.headers(
        1, [(":method", "POST"), (":scheme", "http"), (":path", "/a?b"), (":authority", "shop"), ("x", "\xff")], pad=9
    )
    sent += data(1, b"abc", pad=5) + data(1, b"", pad=0) + data(1, b"def") + client.headers(1, [("sum", "6")], end=True)
    talk = Talk(step=step).ask(opening() + sent)
    interim = server.headers(1, [(":status", "103"), ("link", "</x>")])
    final = server.continued(1, [(":status", "201"), ("server", "test")], 2)
    talk.answer(SETTINGS + interim + final + frame(6, 0, 0, bytes(8)) + frame(8, 0, 1, bytes(4)))
    (exchange,) = talk.answer(data(1, b"made") + frame(42, 255, 1, b"unknown") + data(1, b"", end=True)).done
    request, response = exchange.request, exchange.response
    assert request is not None
    assert response is not None
    assert (request.head.method, request.head.target, request.head.version) == ("POST", "/a?b", "HTTP/2")
    assert request.head.headers == ((":authority", "shop"), ("x", "\xc3\xbf"))
    assert (request.end.body, request.end.size, request.end.truncated) == (b"abcdef", 6, False)
    assert request.end.trailers == (("sum", "6"),)
    assert (response.head.status, response.head.headers) == (201, (("server", "test"),))
    assert (response.end.body, response.end.truncated) == (b"made", False)
    assert exchange.duration is not None
    assert exchange.duration > 0


def test_the_table_follows_what_the_sender_says() -> None:
    """A smaller table drops entries, a larger one keeps more, and both are announced in the next block."""
    client, server = Peer(), Peer()
    talk = Talk().ask(opening()).answer(SETTINGS)
    stream = 1
    for size in (4096, 64, 4096, 0, 65536):
        client.encoder.header_table_size = size
        for _ in range(3):
            more = [(f"x-{number}", "v" * 50) for number in range(60)]
            talk.ask(client.get(stream, f"/{stream}", *more)).answer(server.ok(stream))
            stream += 2
    assert [pair[0] for pair in talk.pairs] == [f"/{number}" for number in range(1, stream, 2)]
    assert all(each.request and len(each.request.head.headers) == 61 for each in talk.done)
    assert all(each.incomplete is None for each in talk.done)


def test_a_table_beyond_the_limit_is_said_to_be_unknown() -> None:
    client = Peer()
    client.encoder.header_table_size = TABLE_LIMIT + 1
    (exchange,) = Talk().ask(opening() + client.get(1, "/1")).finish().done
    assert exchange.incomplete == UNDECODABLE


def test_joined_midway_what_cannot_be_known_is_said() -> None:
    client, server = Peer(), Peer()
    client.get(1, "/secret", ("x-old", "1"))
    server.ok(1, b"x", ("x-old", "2"))
    talk = Talk(client=None, in_step=(False, False))
    talk.ask(client.get(3, "/secret", ("x-new", "3"))).answer(server.ok(3, b"a", ("x-old", "2")))
    talk.ask(client.get(5, "/fresh", ("x-new", "3"))).answer(server.ok(5, b"b"))
    assert talk.pairs == [("", 200, b"a"), ("/fresh", 200, b"b")]
    first, second = talk.done
    assert first.request is not None
    assert (first.request.head.method, first.request.head.headers) == ("GET", (("x-new", "3"),))
    assert (first.incomplete, second.incomplete) == (TABLE_UNKNOWN, TABLE_UNKNOWN)  # the authority is still unknown
    fields: Fields = [(":method", "PUT"), (":path", "/all"), (":authority", "x"), ("x-new", "3")]
    talk.ask(client.headers(7, fields, end=True)).answer(server.headers(7, [(":status", "204")], end=True))
    assert talk.pairs[-1] == ("/all", 204, b"")
    assert talk.done[-1].incomplete is None
    assert talk.http2.client == 0


@pytest.mark.parametrize("first", [0, 1])
def test_roles_are_told_by_header_blocks(first: int) -> None:
    sent = [Peer().get(1, "/1"), Peer().ok(1, b"a")]
    talk = Talk(client=None, in_step=(False, False)).say(first, sent[first]).say(1 - first, sent[1 - first])
    assert talk.http2.client == 0
    assert ("/1", 200, b"a") in talk.pairs or talk.pairs == [(None, 200, b"a")]


def test_bytes_between_frames_are_passed_over_until_a_segment_begins_with_one() -> None:
    client, server = Peer(), Peer()
    talk = Talk(in_step=(False, False)).ask(b"rest of a body\0\0\0").answer(b"\x17" * 40)
    talk.ask(b"tail" + client.get(1, "/never")).ask(client.get(3, "/3")).answer(server.ok(3, b"a"))
    assert talk.pairs == [("/3", 200, b"a")]


def test_a_hole_in_a_body_costs_the_body_only() -> None:
    client, server = Peer(), Peer()
    whole = data(1, b"0123456789", end=True)
    talk = (
        Talk()
        .ask(opening() + client.get(1, "/1", ("x", "y")))
        .answer(SETTINGS + server.headers(1, [(":status", "200")]))
    )
    talk.answer(whole[:12]).lose(1, 4).answer(whole[16:])
    talk.ask(client.get(3, "/3", ("x", "y"))).answer(server.ok(3, b"b"))
    assert talk.pairs == [("/1", 200, b"012"), ("/3", 200, b"b")]
    end = talk.done[0].response
    assert end is not None
    assert (end.end.size, end.end.truncated, talk.done[0].incomplete) == (10, True, None)
    assert talk.done[1].incomplete is None


def test_padding_that_is_lost_costs_nothing() -> None:
    client, server = Peer(), Peer()
    whole = data(1, b"0123456789", end=True, pad=20)
    talk = Talk().ask(opening() + client.get(1, "/1")).answer(SETTINGS + server.headers(1, [(":status", "200")]))
    talk.answer(whole[:25]).lose(1, len(whole) - 25)
    assert talk.pairs == [("/1", 200, b"0123456789")]
    end = talk.done[0].response
    assert end is not None
    assert (end.end.size, end.end.truncated) == (10, False)


def test_lost_frames_make_the_table_unknown_from_then_on() -> None:
    client, server = Peer(), Peer()
    talk = Talk().ask(opening() + client.get(1, "/1", ("x", "y"))).answer(SETTINGS + server.ok(1, b"a"))
    client.get(3, "/lost", ("lost", "1"))
    talk.lose(0, 20).ask(client.get(5, "/lost", ("x", "y"), ("lost", "1"))).answer(
        server.ok(3, b"b") + server.ok(5, b"c")
    )
    assert talk.pairs == [("/1", 200, b"a"), (None, 200, b"b"), ("", 200, b"c")]
    assert talk.done[2].incomplete == TABLE_UNKNOWN
    assert talk.done[2].request is not None
    assert talk.done[2].request.head.headers == ()


def test_a_lost_answer_comes_out_with_what_followed() -> None:
    client = Peer()
    talk = Talk().ask(opening() + client.get(1, "/1") + client.get(3, "/3")).answer(SETTINGS)
    talk.lose(1, None).answer(data(1, b"body", end=True))
    talk.finish()
    assert talk.pairs == [("/1", 0, b"body"), ("/3", None, None)]
    assert talk.done[0].incomplete == BLOCK_UNSEEN


def test_a_body_of_which_everything_was_lost_has_a_time() -> None:
    talk = Talk(in_step=(False, False)).ask(data(1, b"lost", end=True)[:9]).lose(0, 4).finish()
    assert [each.ts for each in talk.done] == [10]


def test_a_request_whose_end_was_lost_is_answered_all_the_same() -> None:
    client, server = Peer(), Peer()
    talk = Talk().ask(opening() + client.get(1, "/1", end=False)).lose(0, 100).answer(SETTINGS + server.ok(1, b"a"))
    assert talk.pairs == [("/1", 200, b"a")]
    assert talk.done[0].request is not None
    assert talk.done[0].request.end.truncated
    talk.ask(data(1, b"late", end=True)).finish()
    assert len(talk.pairs) == 1


def test_reset_goaway_and_push() -> None:
    client, server = Peer(), Peer()
    talk = Talk().ask(opening() + b"".join(client.get(stream, f"/{stream}") for stream in (1, 3, 5)))
    talk.ask(frame(3, 0, 1, bytes(4))).answer(SETTINGS + server.ok(1, b"late"))
    assert talk.pairs == [("/1", None, None)]
    promised = server.encoder.encode([(":method", "GET"), (":path", "/pushed"), ("x-push", "1")])
    talk.answer(frame(5, 4, 3, bytes([0, 0, 0, 2]) + promised) + server.ok(2, b"pushed", ("x-push", "1")))
    talk.answer(server.ok(3, b"c", ("x-push", "1")) + frame(7, 0, 0, bytes([0, 0, 0, 3]) + bytes(4)))
    assert talk.pairs[1:] == [("/pushed", 200, b"pushed"), ("/3", 200, b"c"), ("/5", None, None)]
    assert [exchange.pushed for exchange in talk.done] == [False, True, False, False]
    assert talk.done[2].response is not None
    assert ("x-push", "1") in talk.done[2].response.head.headers
    assert talk.held < 4000


def test_a_goaway_of_a_client_refuses_nothing() -> None:
    client, server = Peer(), Peer()
    goaway = frame(7, 0, 0, bytes(8))
    talk = Talk(client=None, in_step=(False, False)).ask(data(1, b"rest") + goaway).answer(server.ok(1, b"a"))
    assert talk.pairs == []
    talk.ask(goaway + data(1, b"", end=True) + client.get(3, "/3")).answer(server.ok(3, b"b")).finish()
    assert talk.pairs[-1] == ("/3", 200, b"b")
    assert talk.pairs[0] == ("", 200, b"a")


def test_bodies_are_kept_up_to_the_limit_and_counted_whole() -> None:
    client, server = Peer(), Peer()
    talk = Talk().ask(opening() + client.get(1, "/1")).answer(SETTINGS + server.headers(1, [(":status", "200")]))
    for _ in range(10):
        talk.answer(data(1, b"x" * 16000))
        assert talk.held < BODY_LIMIT + 4096
    (exchange,) = talk.answer(data(1, b"", end=True)).done
    assert exchange.response is not None
    assert (len(exchange.response.end.body), exchange.response.end.size) == (BODY_LIMIT, 160000)
    assert exchange.response.end.truncated


def test_streams_are_bounded_and_accounted_for() -> None:
    client = Peer()
    talk = Talk().ask(opening())
    for number in range(MOST_STREAMS + 10):
        talk.ask(client.get(2 * number + 1, f"/{number}"))
    assert talk.pairs == [(f"/{number}", None, None) for number in range(10)]
    talk.finish()
    assert len(talk.pairs) == MOST_STREAMS + 10
    assert talk.held < 20_000


def test_a_header_block_over_the_limit_costs_its_table() -> None:
    client, server = Peer(), Peer()
    flood = frame(1, 1, 1, b"\0" * 10) + frame(9, 0, 1, b"\0" * 10_000) * 20
    talk = Talk().ask(opening() + flood)
    assert talk.held < 280_000
    talk.ask(frame(9, 4, 1)).answer(SETTINGS + server.ok(1, b"a")).ask(client.get(3, "/3")).answer(server.ok(3))
    assert talk.pairs == [("", 200, b"a"), ("/3", 200, b"")]
    assert [each.incomplete for each in talk.done] == ["a header block over 65536 octets", None]


def test_a_malformed_block_is_not_shown() -> None:
    talk = Talk().ask(opening() + frame(1, 5, 1, b"\x82\x84\x80")).finish()
    assert talk.pairs == [("", None, None)]
    assert talk.done[0].incomplete == UNDECODABLE


UNDECODABLE = "a header block that cannot be decoded"
streams = st.sampled_from([1, 3, 1 << 31 | 1])
blocks = st.sampled_from([b"", b"\x82\x84", b"\x88", b"\0\x01x\x01y", b"\x80"])
valid_frames = st.one_of(
    st.builds(
        lambda stream, flags, body: frame(0, flags, stream, body), streams, st.integers(0, 1), st.binary(max_size=9)
    ),
    st.builds(lambda stream, body, pad: data(stream, body, pad=pad), streams, st.binary(max_size=9), st.integers(0, 9)),
    st.builds(lambda stream, flags, block: frame(1, flags, stream, block), streams, st.sampled_from([4, 5]), blocks),
    st.builds(lambda stream, block: frame(1, 0x24, stream, bytes(5) + block), streams, blocks),
    st.builds(
        lambda stream, end, block: frame(1, end, stream, block) + frame(9, 4, stream),
        streams,
        st.integers(0, 1),
        blocks,
    ),
    st.builds(lambda stream: frame(3, 0, stream, bytes(4)), streams),
    st.sampled_from(
        [frame(4, 0, 0), frame(6, 0, 0, bytes(8)), frame(8, 0, 1, bytes(4)), frame(5, 4, 1, b"\0\0\0\2\x88")]
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), valid_frames), max_size=12), st.integers(2, 30))
def test_frames_mean_the_same_in_any_segments(sent: list[tuple[int, bytes]], step: int) -> None:
    """Each whole in a segment, as most are, or in parts."""
    whole, parts, octets = Talk(), Talk(step=step), Talk(step=1)
    for side, each in sent:
        for talk in (whole, parts, octets):
            talk.say(side, each)
    told = []
    for talk in (whole, parts, octets):
        ends = [
            (it.end.body, it.end.size, it.end.truncated, it.end.trailers, it.head.headers)
            for each in talk.finish().done
            for it in (each.request, each.response)
            if it
        ]
        told.append((talk.pairs, ends, [(each.incomplete, each.grpc) for each in talk.done]))
    assert told[0] == told[1] == told[2]


# -- as a session sees it ----------------------------------------------------------------------------------------------


def wire() -> Wire:
    return Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))


@pytest.mark.parametrize("step", [1, 5, 10_000])
def test_a_whole_connection(step: int) -> None:
    client, server, it = Peer(), Peer(), wire()
    sent, got = opening() + client.get(1, "/1"), SETTINGS + server.ok(1, b"a")
    packets = it.handshake() + [it.ask(sent[at : at + step]) for at in range(0, len(sent), step)]
    packets += [it.answer(got[at : at + step]) for at in range(0, len(got), step)]
    capture = Capture().feed([*packets, *it.close()]).finish()
    assert (capture.pairs, capture.undecoded) == ([("/1", "a")], [])
    assert (capture.seen[0].leg.src, capture.seen[0].leg.direction) == (endpoint("127.0.0.6:40000"), "inbound")


def test_a_server_that_speaks_first() -> None:
    client, server, it = Peer(), Peer(), wire()
    packets = [
        *it.handshake(),
        it.answer(SETTINGS),
        it.ask(opening() + client.get(1, "/1")),
        it.answer(server.ok(1, b"a")),
    ]
    assert Capture().feed(packets).pairs == [("/1", "a")]


def test_a_connection_joined_midway() -> None:
    client, server, it = Peer(), Peer(), wire()
    it.handshake()
    client.get(1, "/old")
    packets = [it.ask(client.get(3, "/3")), it.answer(server.ok(3, b"a")), it.ask(client.get(5, "/3"))]
    (record,) = Capture().feed(packets).seen
    assert (record.leg.src, record.leg.dst) == (endpoint("127.0.0.6:40000"), endpoint("10.0.0.2:8080"))
    assert record.exchange.incomplete == TABLE_UNKNOWN


@pytest.mark.parametrize("step", [1, 10_000])
def test_an_upgrade(step: int) -> None:
    """The answer to the request that asked for it comes in HTTP/2, on stream 1, perhaps in the segment of the 101."""
    client, server, it = Peer(), Peer(), wire()
    asked = b"GET /up HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n"
    switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    got = switched + SETTINGS + server.ok(1, b"up")
    packets = [*it.handshake(), it.ask(asked), *(it.answer(got[at : at + step]) for at in range(0, len(got), step))]
    packets += [it.ask(opening() + client.get(3, "/3")), it.answer(server.ok(3, b"b"))]
    capture = Capture().feed(packets).finish()
    assert capture.pairs == [("/up", "up"), ("/3", "b")]
    assert capture.undecoded == []


def test_what_only_begins_like_http2_is_counted() -> None:
    it = wire()
    capture = (
        Capture().feed([*it.handshake(), it.ask(opening() + b"no frames at all, just text"), *it.close()]).finish()
    )
    assert (capture.pairs, capture.undecoded) == ([], ["http2"])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.one_of(
                st.binary(max_size=80),
                st.integers(0, 100),
                st.builds(frame, st.integers(0, 10), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=40)),
            ),
        ),
        max_size=40,
    ),
    st.booleans(),
    st.sampled_from([None, 0, 1]),
)
def test_no_bytes_make_it_raise_or_grow(sent: list[tuple[int, bytes | int]], known: bool, client: int | None) -> None:
    """Whatever comes: nothing raises, what is held is bounded by what came, and nothing is held at the end."""
    talk = Talk(client=client, in_step=(known, known))
    for side, piece in sent:
        if isinstance(piece, int):
            talk.lose(side, piece or None)
        else:
            talk.take(talk.http2.data(side, Data(piece, 1, 0, 0)))
        assert talk.held <= 1024 * len(sent) + 200
    talk.lose(0, None).lose(1, None).finish()
    assert talk.held == 0


def promise(server: Peer, promised: int, path: str) -> bytes:
    block = server.encoder.encode([(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "shop")])
    return frame(5, 4, 1, promised.to_bytes(4, "big") + block)


def test_a_push_that_the_client_refuses_says_so() -> None:
    client, server = Peer(), Peer()
    talk = Talk().ask(opening() + client.get(1, "/1")).answer(SETTINGS + promise(server, 2, "/style.css"))
    talk.ask(frame(3, 0, 2, (7).to_bytes(4, "big"))).answer(server.ok(2, b"late") + server.ok(1, b"a")).finish()
    assert talk.pairs == [("/style.css", None, None), ("/1", 200, b"a")]
    refused = talk.done[0]
    assert (refused.pushed, refused.outcome.by, refused.outcome.code) == (True, "client", "REFUSED_STREAM")


def test_a_promise_tells_which_side_is_the_server() -> None:
    server = Peer()
    talk = Talk(client=None, in_step=(False, False)).answer(promise(server, 4, "/p") + server.ok(4, b"body")).finish()
    assert talk.pairs == [("/p", 200, b"body")]
    assert talk.http2.client == 0


def test_pushes_that_never_come_are_bounded() -> None:
    server = Peer()
    talk = Talk().ask(opening()).answer(SETTINGS)
    for number in range(2, 6 * MOST_STREAMS, 2):
        talk.answer(promise(server, number, "/p"))
    assert len(talk.done) == 2 * MOST_STREAMS - 1
    talk.finish()
    assert talk.held < 1000


CHAT = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":path", "/chat"),
    (":authority", "s"),
]


def text(word: bytes, *, masked: bool) -> bytes:
    """A WebSocket frame with a text. A mask of zeros changes nothing."""
    return bytes([0x81, len(word) | 0x80 * masked]) + bytes(4 * masked) + word


@STEPS
def test_a_websocket_over_http2(step: int) -> None:
    """Its exchange comes with the response head, and its messages after that; other streams go on."""
    client, server = Peer(), Peer()
    talk = Talk(step=step).ask(opening() + client.headers(1, CHAT) + client.get(3, "/3"))
    talk.answer(SETTINGS + server.headers(1, [(":status", "200")]))
    assert talk.pairs == [("/chat", 200, b"")]
    opened = talk.done[0].request
    assert opened is not None
    assert (":protocol", "websocket") in opened.head.headers
    talk.ask(data(1, text(b"hi", masked=True))).answer(server.ok(3, b"b") + data(1, text(b"yo", masked=False)))
    talk.ask(data(1, text(b"bye", masked=True), end=True)).answer(data(1, b"", end=True)).finish()
    assert [(fact.sender, fact.body) for fact in talk.facts if isinstance(fact, WebSocketMessage)] == [
        ("client", b"hi"),
        ("server", b"yo"),
        ("client", b"bye"),
    ]
    assert talk.pairs == [("/chat", 200, b""), ("/3", 200, b"b")]
    assert talk.held < 4000


def test_a_client_need_not_wait_for_the_websocket_to_be_accepted() -> None:
    client, server = Peer(), Peer()
    talk = Talk().ask(opening() + client.headers(1, CHAT) + data(1, text(b"early", masked=True)))
    talk.answer(SETTINGS + server.headers(1, [(":status", "200")])).finish()
    assert [fact.body for fact in talk.facts if isinstance(fact, WebSocketMessage)] == [b"early"]


def test_a_websocket_that_is_refused_is_an_exchange_like_others() -> None:
    client, server = Peer(), Peer()
    talk = Talk().ask(opening() + client.headers(1, CHAT, end=True))
    talk.answer(SETTINGS + server.headers(1, [(":status", "403")]) + data(1, text(b"no", masked=False), end=True))
    assert talk.pairs == [("/chat", 403, text(b"no", masked=False))]
    assert not talk.finish().facts


@pytest.mark.parametrize("protocol", ["connect-udp", None])
def test_other_uses_of_connect_stay_exchanges(protocol: str | None) -> None:
    client, server = Peer(), Peer()
    fields = [(":method", "CONNECT"), (":authority", "s:1")] + ([(":protocol", protocol)] if protocol else [])
    talk = Talk().ask(opening() + client.headers(1, fields)).answer(SETTINGS + server.headers(1, [(":status", "200")]))
    talk.ask(data(1, b"up", end=True)).answer(data(1, b"down", end=True)).finish()
    assert talk.pairs == [("s:1", 200, b"down")]
    assert not talk.facts


def test_bytes_lost_within_a_websocket_over_http2_cost_only_that_direction() -> None:
    client, server = Peer(), Peer()
    talk = Talk().ask(opening() + client.headers(1, CHAT)).answer(SETTINGS + server.headers(1, [(":status", "200")]))
    talk.lose(0, 40).ask(data(1, text(b"after", masked=True))).answer(data(1, text(b"yo", masked=False))).finish()
    messages = [fact for fact in talk.facts if isinstance(fact, WebSocketMessage)]
    assert [(fact.sender, fact.opcode, fact.body) for fact in messages] == [("client", 0, b""), ("server", 1, b"yo")]
