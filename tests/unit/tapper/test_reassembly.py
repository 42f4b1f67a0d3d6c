"""Test cases: in order, out of order, overlap, retransmission, wrap-around, mid-stream, FIN, gaps and bounds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapper.streams.bounds import PIECE_COST
from tapper.streams.reassembly import FAR, Chunk, Data, Gap, HalfStream, StreamEnd


def text(chunks: list[Chunk]) -> str:
    """`abc` for data, `<3>` for a gap, `.` for the end."""
    parts = []
    for chunk in chunks:
        if isinstance(chunk, Data):
            parts.append(chunk.data.decode())
        elif isinstance(chunk, Gap):
            parts.append(f"<{chunk.size}>")
        else:
            parts.append(".")
    return "".join(parts)


class Stream:
    """A half stream that started at `isn`, and what it delivered."""

    def __init__(self, isn: int | None = 99, limit: int = 1 << 20) -> None:
        self.half = HalfStream(limit)
        self.out: list[Chunk] = []
        if isn is not None:
            assert self.half.syn(isn)

    def push(self, seq: int, data: str, ts: int = 0, ack: int = 0) -> Stream:
        self.out += self.half.push(seq & 0xFFFFFFFF, data.encode(), ts, ack)
        return self

    @property
    def text(self) -> str:
        return text(self.out)


def test_in_order() -> None:
    assert Stream().push(100, "abc").push(103, "def").text == "abcdef"


def test_out_of_order_waits_and_keeps_its_own_numbers() -> None:
    stream = Stream().push(103, "def", ts=2, ack=20)
    assert stream.text == ""
    stream.push(100, "abc", ts=1, ack=10)
    assert stream.out == [Data(b"abc", 1, 100, 10), Data(b"def", 2, 103, 20)]
    assert stream.half.held == 0


def test_a_retransmission_is_delivered_once() -> None:
    assert Stream().push(100, "abc").push(100, "abc").push(103, "d").push(100, "abcd").text == "abcd"


def test_the_new_part_of_a_longer_retransmission_is_delivered() -> None:
    assert Stream().push(100, "abc").push(101, "XXdef").text == "abcdef"


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([(103, "DEF"), (101, "bcxxxg"), (100, "a")], "abcDEFg"),
        ([(102, "CD"), (106, "GH"), (100, "abxxefxxij")], "abCDefGHij"),
        ([(104, "E"), (102, "C"), (102, "xdxf"), (100, "ab")], "abCdEf"),
        ([(103, "def"), (103, "xxx"), (100, "abcyyy")], "abcdef"),
    ],
)
def test_the_copy_seen_first_wins(pieces: list[tuple[int, str]], expected: str) -> None:
    stream = Stream()
    for seq, data in pieces:
        stream.push(seq, data)
    assert stream.text == expected


@pytest.mark.parametrize("isn", [0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFF9, 0x7FFFFFFE])
def test_numbers_wrap(isn: int) -> None:
    first = isn + 1
    stream = Stream(isn & 0xFFFFFFFF).push(first, "ab").push(first + 6, "gh").push(first + 2, "cdef").push(first, "ab")
    assert stream.text == "abcdefgh"
    assert stream.half.position & 0xFFFFFFFF == (first + 8) & 0xFFFFFFFF


def test_a_stream_longer_than_the_number_space() -> None:
    half = HalfStream()
    half.syn(0xFFFFFF00)
    seq, block = 0xFFFFFF01, bytes(1 << 20)
    for _ in range(4100):
        assert [type(chunk) for chunk in half.push(seq, block, 0, 0)] == [Data]
        seq = (seq + len(block)) & 0xFFFFFFFF


def test_midstream_begins_where_it_is_joined() -> None:
    stream = Stream(None).push(5000, "mid").push(4990, "before").push(5003, "dle")
    assert stream.text == "middle"
    assert not stream.half.from_start


def test_a_hole_is_a_gap_once_the_peer_has_acknowledged_it() -> None:
    stream = Stream().push(100, "abc").push(106, "ghi")
    assert not stream.half.in_order
    assert stream.half.acknowledged(103) == []
    assert stream.half.acknowledged(105) == []
    assert text(stream.half.acknowledged(106)) == "<3>ghi"
    assert stream.half.in_order


def test_an_acknowledgement_opens_only_the_holes_it_passed() -> None:
    stream = Stream().push(103, "d").push(106, "g")
    assert text(stream.half.acknowledged(104)) == "<3>d"
    assert text(stream.half.acknowledged(107)) == "<2>g"


def test_a_late_copy_of_a_declared_gap_is_not_delivered() -> None:
    stream = Stream().push(103, "d")
    stream.half.acknowledged(104)
    assert stream.push(100, "abcd").push(104, "e").text == "e"


def test_end_comes_with_the_last_byte_before_fin() -> None:
    stream = Stream().push(103, "def")
    assert stream.half.fin(106) == []
    assert stream.push(100, "abc").text == "abcdef."
    assert stream.half.ended
    assert stream.push(106, "after").text == "abcdef."
    assert stream.half.fin(106) == []


def test_bytes_beyond_fin_are_not_part_of_the_stream() -> None:
    stream = Stream()
    assert stream.half.fin(103) == []
    assert stream.push(100, "abcdef").text == "abc."


def test_a_lost_tail_is_a_gap_when_the_fin_was_acknowledged() -> None:
    stream = Stream().push(100, "abc")
    assert stream.half.fin(110) == []
    assert text(stream.half.acknowledged(103)) == ""
    assert text(stream.half.acknowledged(111)) == "<7>."


@pytest.mark.parametrize(("ack", "shown"), [(109, "<6>"), (104, ""), (103, ""), (90, ""), (103 + FAR + 1, "")])
def test_at_the_end_what_was_acknowledged_is_missing(ack: int, shown: str) -> None:
    """A single number may be that of a FIN. No window reaches as far as the last one."""
    assert text(Stream().push(100, "abc").half.conclude(ack)) == shown


def test_fin_of_an_unknown_stream_ends_it() -> None:
    assert text(HalfStream().fin(4711)) == "."


def test_flush_delivers_what_is_held() -> None:
    assert text(Stream().push(103, "d").push(110, "k").half.flush()) == "<3>d<6>k"


def test_the_bound_gives_up_a_hole() -> None:
    stream = Stream(limit=3 * (PIECE_COST + 1))
    for seq in (102, 104, 106):
        stream.push(seq, "x")
    assert stream.text == ""
    stream.push(108, "y")
    assert stream.text == "<2>x"
    assert stream.half.held == 3 * (PIECE_COST + 1)


def test_syn_again_is_a_retransmission_and_another_syn_another_connection() -> None:
    half = HalfStream()
    assert half.syn(99)
    half.push(100, b"abc", 0, 0)
    assert half.syn(99)
    assert not half.syn(5000)
    joined = HalfStream()
    joined.push(100, b"abc", 0, 0)
    assert not joined.syn(50)
    assert joined.syn(99)  # it was captured after the first data
    assert joined.from_start


def test_a_stream_that_goes_on_somewhere_else() -> None:
    stream = Stream(None).push(1 << 31, "old").push((1 << 31) + 5, "held")
    stream.out += stream.half.restart(77)
    assert stream.push(77, "new").push(80, "er").text == "old<2>held<None>newer"


def test_missing_bytes_are_a_gap_once_nobody_waits_for_them() -> None:
    stream = Stream().push(100, "abc").push(110, "k")
    stream.out += stream.half.skip(106)
    assert stream.text == "abc<3>"
    stream.out += stream.half.skip(111)
    assert stream.text == "abc<3><4>k"
    assert stream.half.skip(111) == stream.half.skip(50) == []


def test_an_acknowledgement_of_what_nobody_can_have_sent_opens_no_hole() -> None:
    stream = Stream().push(103, "d")
    assert stream.half.acknowledged(103 + (1 << 28)) == []
    assert stream.push(100, "abc").text == "abcd"


@pytest.mark.parametrize(
    ("seq", "size", "covered"), [(100, 3, True), (99, 1, True), (101, 2, True), (103, 1, False), (50, 3, False)]
)
def test_what_a_stream_covers_once_it_ended(seq: int, size: int, covered: bool) -> None:
    stream = Stream().push(100, "abc")
    stream.half.fin(103)
    assert stream.half.covers(seq, size) is covered


@given(st.data())
@settings(max_examples=200)
def test_any_cutting_order_and_duplication_yields_the_stream(data: st.DataObject) -> None:
    """Invariant: whatever segments come, in whatever order and how often, each byte of the stream is delivered once."""
    content = data.draw(st.binary(min_size=1, max_size=60))
    isn = data.draw(st.integers(0, 0xFFFFFFFF))
    spans = data.draw(st.lists(st.tuples(st.integers(0, len(content)), st.integers(1, 20)), max_size=30))
    segments = [(start, content[start : start + length]) for start, length in spans]
    segments += [(start, content[start : start + 7]) for start in range(0, len(content), 7)]
    order = data.draw(st.permutations(segments))
    half = HalfStream()
    half.syn(isn)
    chunks: list[Chunk] = []
    for start, piece in order:
        if piece:
            chunks += half.push((isn + 1 + start) & 0xFFFFFFFF, piece, 0, 0)
    chunks += half.fin((isn + 1 + len(content)) & 0xFFFFFFFF)
    assert b"".join(chunk.data for chunk in chunks if isinstance(chunk, Data)) == content
    assert isinstance(chunks[-1], StreamEnd)
    assert not any(isinstance(chunk, Gap) for chunk in chunks)
    assert half.held == 0


@given(st.lists(st.tuples(st.integers(0, 0xFFFFFFFF), st.binary(max_size=50), st.sampled_from("pfsa")), max_size=60))
def test_anything_goes_in_and_memory_stays_bounded(steps: list[tuple[int, bytes, str]]) -> None:
    """Invariant: no input raises, and never more is held than the bound."""
    half = HalfStream(limit=1000)
    for number, data, kind in steps:
        if kind == "p":
            half.push(number, data, 0, 0)
        elif kind == "f":
            half.fin(number)
        elif kind == "s":
            half.syn(number)
        else:
            half.acknowledged(number)
        assert 0 <= half.held <= 1000
    half.flush()
    assert half.held == 0


def test_many_segments_in_random_order_are_not_slow_to_hold() -> None:
    """8,000 segments behind one hole: the time is that of sorting, not of its square (the suite's time-out notices)."""
    half = HalfStream(limit=1 << 30)
    half.syn(0)
    order = list(range(1, 8000))
    random.Random(7).shuffle(order)
    for index in order:
        half.push(1 + index * 10, b"0123456789", 0, 0)
    assert len(half.push(1, b"0123456789", 0, 0)) == 8000
