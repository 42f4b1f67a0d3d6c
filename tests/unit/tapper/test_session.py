"""Which side is the client, and when reading begins."""

from __future__ import annotations

from dataclasses import dataclass

from tapper_wire import endpoint, exchanges

from tapper.protocols.records import FactRecord, Record
from tapper.protocols.session import Session
from tapper.streams.bounds import SECOND, Budget
from tapper.streams.connection import Connection, Scope, WireSecurity
from tapper.streams.reassembly import Data

KEY = bytes([10, 0, 0, 1, 10, 0, 0, 2, 0x9C, 0x40, 0, 80])
BACK = bytes([10, 0, 0, 2, 10, 0, 0, 1, 0, 80, 0x9C, 0x40])


@dataclass
class Bench:
    session: Session
    undecoded: list[str]
    connection: Connection[Record]


def bench(client: int | None, *, started: bool) -> Bench:
    connection: Connection[Record] = Connection(Scope("10.0.0.2", None), KEY, BACK, client, 0, Budget())
    if started:
        connection.halves[0].stream.syn(99)
        connection.halves[1].stream.syn(499)
    undecoded: list[str] = []
    return Bench(Session(connection, undecoded.append), undecoded, connection)


def request(seq: int = 100, ack: int = 500) -> Data:
    return Data(b"GET /x HTTP/1.1\r\n\r\n", 1, seq, ack)


def response(seq: int = 500, ack: int = 119) -> Data:
    return Data(b"HTTP/1.1 204 None\r\n\r\n", 2, seq, ack)


def test_a_syn_tells_the_roles() -> None:
    it = bench(1, started=True)
    assert it.session.data(1, request()) == []
    (record,) = it.session.data(0, response())
    assert (record.leg.src, record.leg.dst) == (endpoint("10.0.0.2:80"), endpoint("10.0.0.1:40000"))


def test_without_a_syn_a_request_tells_the_roles() -> None:
    it = bench(None, started=False)
    assert it.session.data(0, Data(b"rest of something", 1, 80, 500)) == []
    assert it.session.data(0, request()) == []
    assert it.session.data(1, response()) == []  # kept back: an unseen request may wait for it
    (record,) = exchanges(it.session.pass_time(60 * SECOND))
    assert (record.leg.src, record.leg.dst) == (endpoint("10.0.0.1:40000"), endpoint("10.0.0.2:80"))


def test_without_a_syn_a_response_tells_the_roles() -> None:
    it = bench(None, started=False)
    (first,) = exchanges(it.session.data(1, response(480, 100)))
    assert first.exchange.request is None
    assert it.session.data(0, request()) == []
    assert it.session.data(1, response()) == []
    (second,) = exchanges(it.session.pass_time(60 * SECOND))
    assert (second.leg.src, second.exchange.request is None) == (endpoint("10.0.0.1:40000"), False)


def test_bytes_too_few_to_tell_are_read_when_there_are_more() -> None:
    it = bench(0, started=True)
    data = b"PRI /x HTTP/1.1\r\n\r\n"
    for index in range(len(data)):
        assert it.session.data(0, Data(data[index : index + 1], 1, 100 + index, 500)) == []
    (record,) = exchanges(it.session.data(1, response()))
    assert record.exchange.request is not None
    assert record.exchange.request.head.method == "PRI"
    assert record.exchange.request.head.seq == 100


def test_bytes_too_few_to_tell_are_not_lost_at_the_end() -> None:
    it = bench(0, started=True)
    assert it.session.data(0, Data(b"P", 1, 100, 500)) == []
    (record,) = it.session.finish()
    assert isinstance(record, FactRecord)
    assert it.undecoded == ["other"]


def test_bytes_too_few_to_tell_are_read_although_the_other_side_has_spoken() -> None:
    it = bench(0, started=True)
    assert it.session.data(0, Data(b"P", 1, 100, 500)) == []
    assert len(it.session.data(1, response(500, 100))) == 1
    assert it.session.data(0, Data(b"UT /x HTTP/1.1\r\n\r\n", 1, 101, 521)) == []
    (record,) = exchanges(it.session.data(1, response(521, 119)))
    assert record.exchange.request is not None
    assert record.exchange.request.head.method == "PUT"


def test_a_connection_that_is_refused_holds_nothing() -> None:
    it = bench(0, started=True)
    it.session.data(0, Data(b"GET /unfinished", 1, 100, 500))
    assert it.session.held > 0
    it.session.data(1, Data(b"\x15\x03\x01\0\2", 1, 500, 115))
    assert (it.session.held, it.undecoded) == (0, ["tls"])


def test_a_silent_connection_is_not_counted() -> None:
    it = bench(0, started=True)
    assert it.session.end(0) == it.session.end(1) == it.session.finish() == []
    assert it.undecoded == []


def test_a_gap_before_anything_falls_out_of_step() -> None:
    it = bench(0, started=True)
    assert it.session.gap(0, 10) == []
    assert it.session.data(0, Data(b"rest of a head\r\n\r\n", 1, 110, 500)) == []
    assert it.session.data(0, request(128)) == []
    alone = exchanges(
        [*it.session.data(1, response(500, 147)), *it.session.finish()]
    )  # the gap may have had a request in it
    assert [record.exchange.request is None for record in alone] == [True, False]


def test_a_proven_connection_stays_http_whatever_comes() -> None:
    it = bench(0, started=True)
    it.session.data(0, request())
    assert len(it.session.data(1, response())) == 1
    assert not it.session.data(0, Data(b"\x16\x03\x01\x00\x05hello", 1, 119, 521))
    [unreadable] = exchanges(it.session.finish())
    assert unreadable.exchange.outcome.kind == "unparsable"
    assert it.undecoded == []


def test_a_connection_that_is_joined_at_a_response_is_plaintext_from_its_first_record_on() -> None:
    connection: Connection[Record] = Connection(Scope(None, None), KEY, BACK, None, 0, Budget())
    session = Session(connection, lambda _: None)
    (record,) = session.data(1, response())
    assert record.leg.wire is WireSecurity.PLAIN
