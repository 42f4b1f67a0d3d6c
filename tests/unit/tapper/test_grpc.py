"""Calls out of streams: names, status, messages and their sizes."""

from __future__ import annotations

import pytest
from h2_wire import SETTINGS, Peer, Talk, data, opening
from hypothesis import given
from hypothesis import strategies as st
from tapper_wire import endpoint

from tapper.output.records import Place
from tapper.output.text import Text
from tapper.protocols.grpc import MOST_SIZES, Counter, Messages, call, is_grpc
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
    counter = Counter()
    for at in range(0, len(stream), step):
        counter.feed(stream[at : at + step])
    assert counter.messages() == Messages(len(sizes), tuple(sizes[:MOST_SIZES]), exact=True)


def test_what_is_no_message_is_not_counted_on() -> None:
    counter = Counter()
    counter.feed(message(b"a") + b"\7garbage" + message(b"b"))
    assert counter.messages() == Messages(1, (1,), exact=False)
