"""Packets in any order: an answer is never shown with another's question, and few packets out of place cost little."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapper_wire import Capture, Wire, get, ok

from tapper.streams.bounds import CONNECTION_COST, SECOND, Limits
from tapper.streams.order import Order
from tapper.streams.reassembly import Data, Gap, HalfStream

POD = "10.0.0.2"
MAKERS: list[Callable[[int], Wire]] = [
    lambda isn: Wire((("127.0.0.6", 40000), (POD, 8080)), None, isn, isn + 777_000),
    lambda isn: Wire(((POD, 41000), ("127.0.0.1", 15001)), (("10.96.7.7", 80), (POD, 41000)), isn, isn + 777_000),
    lambda isn: Wire(((POD, 41000), ("127.0.0.1", 4140)), (("10.96.7.7", 80), (POD, 41000)), isn, isn + 777_000),
]


def conversation(wire: Wire, count: int, *, pipelined: int = 1) -> list[bytes]:
    """Exchange n is `GET /n`, answered by the body `n`. `pipelined` requests are on their way at a time."""
    packets = wire.handshake()
    for first in range(0, count, pipelined):
        asked = range(first, min(first + pipelined, count))
        packets += [wire.ask(get(f"/{index}")) for index in asked]
        packets += [wire.answer(ok(f"{index}")) for index in asked]
        packets.append(wire.client_ack())
    return [*packets, *wire.close()]


def check(capture: Capture, count: int, touched: int) -> None:
    """Every pair is a true one, every message comes at most once, and at most `touched` requests are not paired."""
    paired = 0
    for target, body in capture.pairs:
        if target is not None and body is not None:
            assert target == f"/{body}"
            paired += 1
    for part in (0, 1):
        shown = [pair[part] for pair in capture.pairs if pair[part] is not None]
        assert len(shown) == len(set(shown))
    assert count - paired <= touched
    assert capture.connections.held == 0


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_swapped_neighbours_cost_nothing(data: st.DataObject) -> None:
    wire = data.draw(st.sampled_from(MAKERS))(data.draw(st.integers(0, 0xFFFFFFFF)))
    pipelined = data.draw(st.sampled_from([1, 1, 3]))
    packets = conversation(wire, 6, pipelined=pipelined)
    shift = data.draw(st.integers(0, 1))
    swaps = data.draw(st.sets(st.integers(1, len(packets) // 2 - 3), max_size=6))
    for at in (2 * swap + shift for swap in swaps):
        packets[at], packets[at + 1] = packets[at + 1], packets[at]
    check(Capture().feed(packets).finish(), 6, 0)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_what_is_swapped_delayed_or_dropped_costs_no_more_than_it_touches(data: st.DataObject) -> None:
    """Rule: swap, delay or drop any packets of a conversation; every pair that comes out is a true pair, and at most as
    many are unpaired as were touched. With three packets this is too much to ask: where a request and the answer before
    it are lost, after an earlier loss, a client that pipelines looks the same."""
    wire = data.draw(st.sampled_from(MAKERS))(data.draw(st.integers(0, 0xFFFFFFFF)))
    count = 8
    packets: list[bytes | None] = list(conversation(wire, count))
    touched = 0
    late: list[tuple[int, bytes]] = []
    for at in sorted(data.draw(st.sets(st.integers(0, len(packets) - 4), max_size=2))):
        raw = packets[at]
        assert raw is not None
        touched += 1
        packets[at] = None
        if data.draw(st.booleans()):
            late.append((at + data.draw(st.integers(1, 6)), raw))
    order = [raw for at, raw in enumerate(packets) for raw in [raw, *(it for where, it in late if where == at)] if raw]
    check(Capture().feed(order).finish(), count, touched)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_client_that_pipelines_gets_no_wrong_answer_whatever_is_lost(data: st.DataObject) -> None:
    """Invariant: joined midway or not, with any packets lost, a response is shown with its own request or with none."""
    wire = data.draw(st.sampled_from(MAKERS))(data.draw(st.integers(0, 0xFFFFFFFF)))
    depth = data.draw(st.sampled_from([2, 3, 10]))
    packets = wire.handshake()
    asked = answered = 0
    while answered < 12:
        if asked < 12 and asked - answered < depth and (asked == answered or data.draw(st.booleans())):
            packets.append(wire.ask(get(f"/{asked}")))
            asked += 1
        else:
            packets.append(wire.answer(ok(f"{answered}")))
            answered += 1
    packets += wire.close()
    joined = data.draw(st.integers(0, len(packets) - 1))
    lost = data.draw(st.sets(st.integers(0, len(packets) - 1), max_size=6))
    capture = Capture().feed(raw for at, raw in enumerate(packets) if at >= joined and at not in lost).finish()
    assert [pair for pair in capture.pairs if None not in pair and pair[0] != f"/{pair[1]}"] == []
    assert capture.connections.held == 0


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_conversation_cut_into_segments_may_come_in_any_order_of_its_directions(data: st.DataObject) -> None:
    """Each direction in order, as two queues of a network card deliver them; how they interleave is chance."""
    wire = MAKERS[0](data.draw(st.integers(0, 0xFFFFFFFF)))
    packets = wire.handshake()
    up: list[bytes] = []
    down: list[bytes] = []
    for index in range(4):
        for message, send, queue in ((get(f"/{index}"), wire.ask, up), (ok(f"{index}"), wire.answer, down)):
            cuts = sorted({0, len(message), *data.draw(st.lists(st.integers(0, len(message)), max_size=2))})
            queue += [send(message[a:b]) for a, b in pairwise(cuts)]
    while up or down:
        packets.append((up if up and (not down or data.draw(st.booleans())) else down).pop(0))
    check(Capture().feed(packets).finish(), 4, 0)


def test_an_answer_waits_for_its_question() -> None:
    wire = MAKERS[0](1000)
    start = wire.handshake()
    question, answer = wire.ask(get("/1")), wire.answer(ok("1"))
    capture = Capture().feed([*start, answer])
    assert capture.pairs == []
    assert capture.connections.held > CONNECTION_COST
    assert capture.feed([question]).pairs == [("/1", "1")]
    assert capture.connections.held == CONNECTION_COST


def test_an_answer_whose_question_was_lost_waits_a_second_or_two() -> None:
    wire, other = MAKERS[0](1000), Wire((("127.0.0.6", 50000), (POD, 8080)))
    start = wire.handshake()
    wire.ask(get("/lost"))
    capture = Capture().feed([*start, wire.answer(ok("1"))])
    assert capture.connections.waits
    capture.ts += 3 * SECOND
    capture.feed(other.handshake())
    assert capture.pairs == []
    capture.ts += SECOND
    capture.feed([other.ask(get("/x"))])
    assert capture.pairs == [(None, "1")]
    assert capture.connections.tally.gap_bytes == len(get("/lost"))
    assert capture.feed([wire.client_ack(), *wire.exchange("/2", "2")]).silence().pairs[1:] == [("/2", "2")]


def test_what_waits_is_bounded() -> None:
    wire = MAKERS[0](1000)
    start = wire.handshake()
    wire.ask(get("/lost"))
    capture = Capture(limits=Limits(hole_bytes=2000)).feed(start)
    for _ in range(50):
        capture.feed([wire.answer(b"x" * 100)])
        assert capture.connections.held <= CONNECTION_COST + 2000


def test_two_sides_that_each_claim_to_have_heard_the_other_first_are_told_all_the_same() -> None:
    first, second = HalfStream(), HalfStream()
    first.syn(99)
    second.syn(499)
    order = Order(first, second)
    first.push(100, b"a", 0, 501)
    second.push(500, b"b", 0, 101)
    order.put(0, [Data(b"a", 1, 100, 501)])
    order.put(1, [Data(b"b", 2, 500, 101)])
    assert order.take() is None
    assert order.give_up() == (0, Data(b"a", 1, 100, 501))
    assert order.take() == (1, Data(b"b", 2, 500, 101))
    assert (bool(order), order.held) == (False, 0)


def test_a_gap_comes_before_what_was_sent_with_the_lost_bytes_received() -> None:
    client, server = HalfStream(), HalfStream()
    client.syn(99)
    server.syn(499)
    order = Order(client, server)
    client.push(100, b"ask", 0, 510)
    order.put(0, [Data(b"ask", 1, 100, 510)])
    order.put(1, [Gap(10), Data(b"answer", 2, 510, 103)])
    assert [order.take() for _ in range(3)] == [
        (1, Gap(10)),
        (0, Data(b"ask", 1, 100, 510)),
        (1, Data(b"answer", 2, 510, 103)),
    ]


def test_a_lost_fin_holds_nothing_back_for_ever() -> None:
    wire = MAKERS[0](1000)
    packets = [*wire.handshake(), wire.ask(get("/1"))]
    wire.client_fin()
    packets.append(wire.answer(ok("1")))
    capture = Capture().feed(packets)
    assert capture.finish().pairs == [("/1", "1")]


@pytest.mark.parametrize("lost", [{10}, {10, 13}, {10, 13, 16}, {4, 7, 10}, {13, 19}])
def test_lost_answers_cost_no_other_pair(lost: set[int]) -> None:
    """Packet 3n + 4 answers request n. Answers that are lost in a row are one gap, told before the questions."""
    packets = [raw for at, raw in enumerate(conversation(MAKERS[0](1000), 8)) if at not in lost]
    check(Capture().feed(packets).finish(), 8, len(lost))
