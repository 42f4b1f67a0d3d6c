"""Calls out of streams: names, status, messages and their sizes."""

from __future__ import annotations

import base64

import pytest
from h2_wire import SETTINGS, Peer, Talk, data, opening
from hypothesis import given
from hypothesis import strategies as st
from tapper_wire import Capture, Wire, endpoint

from tapper.output.records import Place
from tapper.output.text import Text
from tapper.protocols.grpc import MOST_SIZES, MessageReader, Messages, call, is_grpc
from tapper.protocols.records import ExchangeRecord
from tapper.streams.connection import Leg
from tapper.streams.legs import Direction

GRPC = ("content-type", "application/grpc")


def message(body: bytes) -> bytes:
    return b"\0" + len(body).to_bytes(4, "big") + body


def test_a_call() -> None:
    client, server = Peer(), Peer()
    talk = Talk(step=3).ask(opening() + client.get(1, "/pkg.Shop/Buy", GRPC, end=False))
    talk.ask(data(1, message(b"abc") + message(b""), end=True))
    talk.answer(SETTINGS + server.headers(1, [(":status", "200"), GRPC]) + data(1, message(b"x" * 70000)[:60000]))
    talk.answer(data(1, message(b"x" * 70000)[60000:]))
    talk.answer(server.headers(1, [("grpc-status", "7"), ("grpc-message", "no%20way %E2%82%AC")], end=True))
    (exchange,) = talk.done
    assert exchange.grpc is not None
    assert (exchange.grpc.service, exchange.grpc.method) == ("pkg.Shop", "Buy")
    assert (exchange.grpc.status, exchange.grpc.status_name) == (7, "PERMISSION_DENIED")
    assert exchange.grpc.message == "no way \u20ac"
    assert exchange.grpc.requests == Messages(2, (3, 0), exact=True)
    assert exchange.grpc.responses == Messages(1, (70000,), exact=True)
    leg = Leg("10.0.0.2", Direction.INBOUND, endpoint("10.0.0.1:1"), endpoint("10.0.0.2:2"))
    line = Text().exchange(Place("pod", 1, "lo"), ExchangeRecord(leg, exchange))
    assert line.endswith("gRPC PERMISSION_DENIED, 2 sent, 1 received\n")


def test_an_answer_of_nothing_but_a_head() -> None:
    client, server = Peer(), Peer()
    talk = Talk().ask(opening() + client.get(1, "/a/B", GRPC)).answer(SETTINGS)
    talk.answer(server.headers(1, [(":status", "200"), GRPC, ("grpc-status", "12")], end=True))
    assert talk.done[0].grpc is not None
    assert talk.done[0].grpc.status_name == "UNIMPLEMENTED"


def test_ordinary_exchanges_are_no_calls() -> None:
    client, server = Peer(), Peer()
    talk = Talk().ask(opening() + client.get(1, "/a/B")).answer(SETTINGS + server.ok(1, message(b"x")))
    assert [each.grpc for each in talk.done] == [None]


def test_lost_bytes_are_said() -> None:
    client, server = Peer(), Peer()
    talk = Talk().ask(opening() + client.get(1, "/a/B", GRPC)).answer(SETTINGS)
    body = data(1, message(b"a") + message(b"b" * 50))
    talk.answer(server.headers(1, [(":status", "200"), GRPC]) + body[:30]).lose(1, len(body) - 30)
    talk.answer(server.headers(1, [("grpc-status", "0")], end=True))
    assert talk.done[0].grpc is not None
    assert talk.done[0].grpc.responses == Messages(2, (1, 50), exact=False)


def test_messages_that_went_by_before_it_was_known_to_be_a_call_are_not_counted() -> None:
    client, server = Peer(), Peer()
    talk = Talk(in_step=(False, False)).answer(data(1, message(b"early")))
    talk.ask(client.get(1, "/a/B", GRPC)).answer(data(1, message(b"late")))
    talk.answer(server.headers(1, [("grpc-status", "0")], end=True))
    (exchange,) = talk.done
    assert exchange.grpc is not None
    assert exchange.grpc.responses == Messages(0, (), exact=False)


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "Application/GRPC; x=y"])
def test_content_types_of_calls(kind: str) -> None:
    assert is_grpc(kind)


@pytest.mark.parametrize("kind", ["application/grpc-web", "application/json", "application/grpcx", ""])
def test_other_content_types(kind: str) -> None:
    assert not is_grpc(kind)
    assert not is_grpc(None)


@pytest.mark.parametrize("target", ["", "*", "/a", "/a/b/c", "a/b", "//b"])
def test_other_paths_name_no_method(target: str) -> None:
    nothing = Messages(0, (), exact=True)
    it = call(target, (), (("grpc-status", "x"),), nothing, nothing)
    assert (it.service, it.method, it.status) == (None, None, None)


@given(st.lists(st.integers(0, 200), max_size=100), st.integers(1, 50))
def test_messages_are_counted_in_any_pieces(sizes: list[int], step: int) -> None:
    stream = b"".join(message(bytes(size)) for size in sizes)
    counter = MessageReader()
    for at in range(0, len(stream), step):
        counter.feed(stream[at : at + step])
    assert counter.messages() == Messages(len(sizes), tuple(sizes[:MOST_SIZES]), exact=True)


def test_what_is_no_message_is_not_counted_on() -> None:
    counter = MessageReader()
    counter.feed(message(b"a") + b"\7garbage" + message(b"b"))
    assert counter.messages() == Messages(1, (1,), exact=False)


def web_trailers(*lines: str) -> bytes:
    block = "".join(f"{line}\r\n" for line in lines).encode()
    return b"\x80" + len(block).to_bytes(4, "big") + block


def in_base64(*pieces: bytes) -> bytes:
    return b"".join(base64.b64encode(piece) for piece in pieces)


TRAILERS = web_trailers("grpc-status:5", "Grpc-Message: no%20such")


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize(
    ("kind", "body", "responses"),
    [
        ("application/grpc-web+proto", message(b"abc") + message(b"") + TRAILERS, Messages(2, (3, 0), exact=True)),
        ("application/grpc-web", TRAILERS, Messages(0, (), exact=True)),
        ("application/grpc-web-text", in_base64(message(b"abc") + TRAILERS), Messages(1, (3,), exact=True)),
        ("application/grpc-web-text+proto", in_base64(message(b"abcd"), TRAILERS), Messages(1, (4,), exact=True)),
    ],
    ids=["messages", "trailers alone", "text", "text in pieces"],
)
def test_grpc_web_has_its_status_in_the_body(version: str, kind: str, body: bytes, responses: Messages) -> None:
    """Also where the text form has padding between its pieces."""
    if version == "HTTP/2":
        client, server = Peer(), Peer()
        talk = Talk().ask(opening() + client.get(1, "/pkg.Shop/Buy", ("content-type", kind), end=False))
        talk.ask(data(1, message(b"q"), end=True)).answer(SETTINGS + server.ok(1, body, ("content-type", kind)))
        (exchange,) = talk.done
    else:
        wire = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
        head = f"POST /pkg.Shop/Buy HTTP/1.1\r\nContent-Type: {kind}\r\nContent-Length: 6\r\n\r\n".encode()
        packets = [*wire.handshake(), wire.ask(head + message(b"q"))]
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        (record,) = Capture().feed([*packets, wire.answer(head + body)]).seen
        exchange = record.exchange
    assert exchange.grpc is not None
    assert (exchange.grpc.service, exchange.grpc.method) == ("pkg.Shop", "Buy")
    assert (exchange.grpc.status, exchange.grpc.message) == (5, "no such")
    assert exchange.grpc.responses == responses


def test_of_grpc_web_that_was_kept_in_part_the_status_is_not_known() -> None:
    body = message(b"x" * 100_000) + TRAILERS
    client, server = Peer(), Peer()
    kind = ("content-type", "application/grpc-web")
    talk = Talk().ask(opening() + client.get(1, "/pkg.Shop/Buy", kind))
    talk.answer(SETTINGS + server.headers(1, [(":status", "200"), kind]))
    for at in range(0, len(body), 10_000):
        talk.answer(data(1, body[at : at + 10_000], end=at + 10_000 >= len(body)))
    (exchange,) = talk.done
    assert exchange.grpc is not None
    assert exchange.grpc.status is None
    assert exchange.grpc.responses == Messages(1, (100_000,), exact=False)


@given(st.binary(max_size=200), st.sampled_from(["application/grpc-web", "application/grpc-web-text"]))
def test_no_body_of_grpc_web_makes_it_raise(body: bytes, kind: str) -> None:
    client, server = Peer(), Peer()
    talk = Talk().ask(opening() + client.get(1, "/a/b"))
    talk.answer(SETTINGS + server.ok(1, body, ("content-type", kind))).finish()
    assert talk.done[0].grpc is not None
