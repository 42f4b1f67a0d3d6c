"""Exchanges that go on are told while they do: their beginning, their parts, and the whole at the end, with one id."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence

import pytest
from h2_wire import SETTINGS, Peer, Talk, data, opening
from hypothesis import given
from hypothesis import strategies as st
from tapper_wire import Capture, Wire, get, ok

from tapper.cli import main
from tapper.output.filters import Filter
from tapper.output.ndjson import Ndjson
from tapper.output.records import Place, Totals
from tapper.output.shape import Shape
from tapper.output.text import Text
from tapper.protocols.facts import StreamBegin, StreamPart
from tapper.protocols.records import ExchangeRecord, FactRecord, Record
from tapper.protocols.streaming import LONGEST_PART, EventReader, Followed, MessagePartReader, part_reader
from tapper.streams.bounds import MOST_PARTS, SECOND, Pace

POD = Place("pod", 1, "lo")
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


class Tap:
    """A connection from the sidecar to the application, and what is told of it."""

    def __init__(self, *, streams: bool = True) -> None:
        self.wire = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
        self.capture = Capture(streams=streams).feed(self.wire.handshake())

    def ask(self, sent: bytes) -> Tap:
        self.capture.feed([self.wire.ask(sent)])
        return self

    def answer(self, sent: bytes, after_s: float = 0) -> Tap:
        self.capture.ts += int(after_s * SECOND)
        self.capture.feed([self.wire.answer(sent)])
        return self

    def pass_time(self, seconds: float) -> Tap:
        """Time goes by without a packet."""
        self.capture.ts += int(seconds * SECOND)
        self.capture.records += self.capture.connections.tell_time(self.capture.ts)
        return self

    @property
    def told(self) -> list[tuple[str, str | bytes]]:
        """Each record in short: its kind, and its target, outcome or content."""
        return [in_short(record) for record in self.capture.records]

    @property
    def ids(self) -> set[str]:
        return {id_of(record) for record in self.capture.records}


def in_short(record: Record) -> tuple[str, str | bytes]:
    if isinstance(record, ExchangeRecord):
        return "http", record.exchange.outcome.kind
    if isinstance(record.fact, StreamBegin):
        return "begin", record.fact.request.target
    assert isinstance(record.fact, StreamPart)
    return record.fact.kind, record.fact.body


def id_of(record: Record) -> str:
    if isinstance(record, ExchangeRecord):
        return record.exchange.id
    assert isinstance(record.fact, StreamBegin | StreamPart)
    return record.fact.id


def test_events_are_told_as_they_come() -> None:
    tap = Tap().ask(get("/sse")).answer(STREAM_HEAD + chunk(b"data: early\n\n"))
    assert tap.told == []
    assert tap.capture.connections.waits
    tap.pass_time(1.1)
    assert tap.told == [("begin", "/sse"), ("event", b"early")]
    tap.answer(chunk(b"event: tick\nid: 4\nda")).answer(chunk(b"ta: a\ndata: b\n\n: a comment\n\n"), 30)
    assert tap.told[2:] == [("event", b"a\nb")]
    event = tap.capture.facts[-1].fact
    assert isinstance(event, StreamPart)
    assert (event.event, event.event_id, event.sender, event.ts) == ("tick", "4", "server", tap.capture.ts)
    tap.answer(chunk(b"data: last\n\n") + b"0\r\n\r\n")
    assert tap.told[3:] == [("event", b"last"), ("http", "complete")]
    assert len(tap.ids) == 1
    assert tap.ids != {""}


def test_a_quick_exchange_is_told_once_and_has_no_id() -> None:
    tap = Tap().ask(get("/1")).answer(STREAM_HEAD + chunk(b"data: 1\n\n")).answer(b"0\r\n\r\n", 0.9)
    assert tap.told == [("http", "complete")]
    assert tap.ids == {""}
    assert not tap.capture.connections.waits, "an idle connection does not ask for the time"
    tap.ask(get("/2")).pass_time(5)
    assert len(tap.told) == 1, "a request that waits for its response is no stream"
    assert tap.answer(ok("late")).told[1:] == [("http", "complete")]


def test_an_exchange_that_is_open_at_the_end_is_told_as_such() -> None:
    tap = Tap().ask(get("/sse")).answer(STREAM_HEAD).answer(chunk(b"data: 1\n\n"), 2)
    tap.capture.finish()
    assert tap.told == [("begin", "/sse"), ("event", b"1"), ("http", "open")]
    assert len(tap.ids) == 1


def test_another_body_is_told_piece_by_piece() -> None:
    tap = Tap().ask(get("/log")).answer(b"HTTP/1.1 200 OK\r\n\r\none").answer(b"two", 2).answer(b"x" * 20_000, 2)
    assert tap.told[1:] == [("data", b"onetwo"), ("data", b"x" * LONGEST_PART)]
    assert [fact.fact.truncated for fact in tap.capture.facts if isinstance(fact.fact, StreamPart)] == [False, True]


def test_bytes_from_before_and_after_a_loss_are_not_one_event() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 1000\r\n\r\n"
    tap = Tap().ask(get("/sse")).answer(head).answer(b"data: 1\n\ndata: lo", 2)
    tap.wire.answer(b"st\n\n")  # which is never captured
    tap.answer(b"data: 3\n\n", 1)
    tap.capture.finish()
    assert [told for told in tap.told if told[0] == "event"] == [("event", b"1"), ("event", b"3")]


def test_an_event_after_a_loss_may_have_lost_its_beginning() -> None:
    reader = EventReader("1", "server")
    reader.feed(b"data: a\ndata: b", 1)
    reader.lose()
    events = reader.feed(b"data: c\n\ndata: d\n\n", 2)
    assert [(event.body, event.truncated) for event in events] == [(b"c", True), (b"d", False)]


def test_a_byte_order_mark_may_begin_the_events() -> None:
    """Only the first octets of the body can be one."""
    mark = "\ufeff".encode()
    sent = mark + b"data: a\n\n" + mark + b"data: b\n\ndata: c\n\n"
    for step in (1, 2, 1000):
        assert [(event.body, event.size) for event in events_of(sent, step)] == [(b"a", 7), (b"c", 7)]


def test_an_event_keeps_its_earlier_id_where_a_later_one_has_a_null() -> None:
    (event,) = events_of(b"id: 7\nid: 8\0\ndata: a\n\n", 1000)
    assert event.event_id == "7"


def test_events_in_a_content_coding_are_told_piece_by_piece() -> None:
    head = STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
    tap = Tap().ask(get("/sse")).answer(head).answer(chunk(b"\x1f\x8b\n\ndata"), 2)
    assert tap.told == [("begin", "/sse"), ("data", b"\x1f\x8b\n\ndata")]


def test_coded_events_over_http2_and_ids_of_two_connections_that_begin_at_once() -> None:
    """Also with the same stream, in a capture whose clock is coarse."""
    ids = []
    for seq in (1000, 5000):
        client, server, talk = Peer(), Peer(), Talk(seq=seq)
        talk.ask(opening() + client.get(1, "/sse"))
        fields = [(":status", "200"), ("content-type", "text/event-stream"), ("content-encoding", "br")]
        talk.answer(server.headers(1, fields))
        talk.ts += 2 * SECOND
        talk.answer(data(1, b"data: one\n\n"))
        assert [fact.kind for fact in talk.facts if isinstance(fact, StreamPart)] == ["data"]
        ids += [fact.id for fact in talk.facts if isinstance(fact, StreamBegin)]
    assert len(set(ids)) == 2


@pytest.mark.parametrize("kind", ["application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text"])
@pytest.mark.parametrize("step", [1, 5, 1000])
def test_messages_of_grpc_web_are_told_without_its_trailers(kind: str, step: int) -> None:
    """In the text form, each message may be base64 of its own."""
    frames = [message(b"abc"), message(b"d"), message(b"grpc-status:0\r\n", 0x80)]
    sent = b"".join(map(b64encode, frames) if kind.endswith("text") else frames)
    reader, told = part_reader(kind, "1", "server"), []
    for at in range(0, len(sent), step):
        told += reader.feed(sent[at : at + step], 1)
    assert [(part.kind, part.body) for part in told] == [("message", b"abc"), ("message", b"d")]


def message(body: bytes, flags: int = 0) -> bytes:
    return bytes([flags]) + len(body).to_bytes(4, "big") + body


GRPC = ("content-type", "application/grpc")


def parts(talk: Talk) -> list[tuple[str, str, bytes]]:
    return [(fact.kind, fact.sender, fact.body) for fact in talk.facts if isinstance(fact, StreamPart)]


def test_messages_of_a_grpc_stream_are_told_as_they_come() -> None:
    client, server = Peer(), Peer()
    talk = Talk().ask(opening() + client.get(1, "/a/Watch", GRPC, end=False) + data(1, message(b"q"), end=True))
    talk.answer(SETTINGS + server.headers(1, [(":status", "200"), GRPC]) + data(1, message(b"1")))
    assert not talk.facts
    talk.take(talk.http2.pass_time(talk.ts + 2 * SECOND))
    assert isinstance(talk.facts[0], StreamBegin)
    assert parts(talk) == [("message", "client", b"q"), ("message", "server", b"1")]
    talk.ts += 3 * SECOND
    talk.answer(data(1, message(b"22", 1)[:4])).answer(data(1, message(b"22", 1)[4:]))
    assert parts(talk)[2:] == [("message", "server", b"22")]
    talk.answer(server.headers(1, [("grpc-status", "0")], end=True))
    (exchange,) = talk.done
    assert exchange.id == talk.facts[0].id


def test_messages_that_a_client_streams_are_told_before_there_is_an_answer() -> None:
    client = Peer()
    talk = Talk().ask(opening() + client.get(1, "/a/Upload", GRPC, end=False) + data(1, message(b"1"))).answer(SETTINGS)
    talk.ts += 2 * SECOND
    talk.ask(data(1, message(b"2")))
    begin = talk.facts[0]
    assert isinstance(begin, StreamBegin)
    assert begin.response is None
    assert parts(talk) == [("message", "client", b"1"), ("message", "client", b"2")]


def test_streams_of_one_connection_are_told_apart() -> None:
    client, server = Peer(), Peer()
    kind = ("content-type", "text/event-stream")
    talk = Talk().ask(opening() + client.get(1, "/1") + client.get(3, "/3")).answer(SETTINGS)
    talk.answer(b"".join(server.headers(stream, [(":status", "200"), kind]) for stream in (1, 3)))
    talk.ts += 2 * SECOND
    talk.answer(data(1, b"data: one\n\n") + data(3, b"data: three\n\n") + data(1, b"data: 1\r\r"))
    begun = {fact.request.target: fact.id for fact in talk.facts if isinstance(fact, StreamBegin)}
    told = [(fact.id, fact.body) for fact in talk.facts if isinstance(fact, StreamPart)]
    assert told == [(begun["/1"], b"one"), (begun["/3"], b"three"), (begun["/1"], b"1")]
    talk.finish()
    assert {exchange.id for exchange in talk.done} == set(begun.values())
    assert talk.held < 1000


def events_of(sent: bytes, step: int, limit: int | None = None) -> list[StreamPart]:
    """The events in a body that comes in pieces of `step` bytes. No more than `limit` bytes may be held."""
    reader, events = EventReader("1", "server"), []
    for at in range(0, len(sent), step):
        events += reader.feed(sent[at : at + step], 1)
        assert limit is None or reader.held <= limit
    return events


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("step", [1, 2, 3, 1000])
def test_events_are_read_whatever_ends_their_lines(end: str, step: int) -> None:
    lines = ["data: a", "data:b", "", "", ":", "", "event: x", "id", "data", "", "retry: 5", "", ""]
    events = events_of(end.join(lines).encode(), step)
    assert [(event.body, event.event, event.event_id) for event in events] == [(b"a\nb", None, None), (b"", "x", "")]


@pytest.mark.parametrize("step", [999, 1 << 20])
def test_of_a_long_event_the_beginning_is_kept(step: int) -> None:
    sent = b"data: " + b"x" * 5 * LONGEST_PART + b"\n\ndata: next\n\n"
    long, following = events_of(sent, step, LONGEST_PART + 1000)
    assert long.body.startswith(b"x")
    assert (len(long.body) <= LONGEST_PART, long.truncated, long.size) == (True, True, 5 * LONGEST_PART + 6)
    assert following.body == b"next"


KINDS = ["text/event-stream", "application/grpc", "application/grpc-web-text", "a/b", ""]


@given(st.lists(st.binary(max_size=50)), st.sampled_from(KINDS))
def test_no_bytes_make_a_reader_raise(pieces: list[bytes], kind: str) -> None:
    reader = part_reader(kind, "1", "server")
    for piece in pieces:
        reader.feed(piece, 1)
        assert reader.held <= sum(map(len, pieces))
    reader.lose()
    reader.feed(b"more", 1)


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(1, 50))
def test_messages_are_read_however_they_are_cut(bodies: list[bytes], step: int) -> None:
    sent = b"".join(map(message, bodies))
    reader, found = MessagePartReader("1", "client"), []
    for at in range(0, len(sent), step):
        found += reader.feed(sent[at : at + step], 1)
    assert [part.body for part in found] == bodies


def test_a_flood_of_parts_is_bounded_and_says_so() -> None:
    """The bound is the source's: many streams tell no more than one. Each says what was left out of it."""
    pace = Pace(MOST_PARTS)
    one, other = (Followed(name, {"server": EventReader(name, "server")}, pace) for name in "12")
    first = one.feed("server", b"data: x\n\n" * (MOST_PARTS - 2), 9 * SECOND)
    second = other.feed("server", b"data: x\n\n" * 7, 9 * SECOND)
    assert (len(first), len(second)) == (MOST_PARTS - 2, 2)
    assert not other.feed("server", b"data: late\n\n", 7 * SECOND), "a late packet opens no other second"
    (later,) = one.feed("server", b"data: y\n\n", 10 * SECOND)
    (last,) = other.feed("server", b"data: y\n\n", 10 * SECOND)
    assert (later.left_out, last.left_out) == (0, 6)


def test_a_clock_that_was_set_back_stops_no_stream() -> None:
    pace = Pace(1)
    assert [pace.may_tell(ts * SECOND) for ts in (5000, 5000, 100, 100, 101)] == [True, False, True, False, True]


def sse_records(shape: Shape) -> Sequence[Record]:
    """The records of a stream with secrets in its request."""
    asked = get("/sse?access_token=hush").replace(b"Host", b"Authorization: hush\r\nHost")
    tap = Tap().ask(asked).answer(STREAM_HEAD).answer(chunk(b"data: 1\n\n"), 2)
    tap.capture.finish()
    return shape.apply(tap.capture.records, Totals())


def fact(record: Record) -> FactRecord:
    assert isinstance(record, FactRecord)
    return record


def test_secrets_are_taken_out_of_the_beginning() -> None:
    for form in (Ndjson(), Text()):
        text = form.fact(POD, fact(sse_records(Shape())[0]))
        assert "hush" not in text
        assert "/sse" in text
    assert "hush" in Ndjson().fact(POD, fact(sse_records(Shape(redaction=None))[0])), "the canary"


def test_with_a_filter_only_the_whole_exchange_is_told() -> None:
    (record,) = sse_records(Shape(filter=Filter(method=["GET"])))
    assert isinstance(record, ExchangeRecord)
    line = json.loads(Ndjson().exchange(POD, record))
    assert (line["type"], "exchange_id" in line) == ("http", True)


def test_without_streams_their_parts_are_not_even_read() -> None:
    tap = Tap(streams=False).ask(get("/sse")).answer(STREAM_HEAD).answer(chunk(b"data: 1\n\nda"), 2)
    held = tap.capture.connections.held
    assert (tap.told, tap.pass_time(5).told) == ([], [])
    tap.answer(chunk(b"x" * 40_000))
    assert tap.capture.connections.held - held < 50_000, "the body is kept once"
    tap.capture.finish()
    assert (tap.told, tap.ids) == ([("http", "open")], {""})


def test_a_person_sees_parts_under_their_exchange() -> None:
    begin, event, _ = sse_records(Shape())
    assert "GET /sse?access_token=REDACTED  200  (goes on)" in Text().fact(POD, fact(begin))
    assert "  | event from the server  7 B: 1" in Text().fact(POD, fact(event))


def test_no_stream_is_refused_where_it_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tap", "--targets", "10.0.0.1", "-o", "pcapng", "--no-redact", "--no-stream"]) == 2
    assert "--no-stream" in capsys.readouterr().err
