"""How an exchange ended follows from the packets, and who a PROXY header names from its bytes; a tapper may leave out
either, and not say another thing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.adapters.contract import Feature
from harness.adapters.records import exchange as reported
from harness.conformance import h2c
from harness.conformance.oracle.compare import differences
from harness.conformance.oracle.decode import decode
from harness.conformance.oracle.model import Decoded, Duty, Expected, OneWay, TcpConnection, TrueOutcome
from harness.mesh.http2 import PREFACE

CLIENT, SERVER = ("127.0.0.6", 40000), ("10.244.0.1", 8080)
ASKED = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CUT = WHOLE[:-1]


def one_way(data: bytes, ended_ns: int | None = None) -> OneWay:
    return OneWay(data, (0,), (5,), ended_ns)


def connection(
    asked: bytes, answered: bytes, *, ends: tuple[int | None, int | None] = (None, None), reset_by: str | None = None
) -> TcpConnection:
    ways = one_way(asked, ends[0]), one_way(answered, ends[1])
    return TcpConnection(CLIENT, SERVER, SERVER, *ways, 1, 9, reset=reset_by is not None, reset_by=reset_by)


@pytest.mark.parametrize(
    ("answered", "ends", "reset_by", "right"),
    [
        (WHOLE, (8, 9), None, {("complete", None)}),
        (WHOLE, (None, None), "server", {("complete", None)}),
        (CUT, (None, None), "server", {("reset", "server")}),
        (b"", (None, None), "client", {("reset", "client")}),
        (b"", (7, None), "server", {("reset", "server"), ("timeout", "client")}),
        (CUT, (9, 8), None, {("timeout", "server")}),
        (b"", (8, 9), None, {("timeout", "client")}),
        (b"", (8, None), None, {("timeout", "client"), ("open", None)}),
        (CUT, (None, None), None, {("open", None)}),
        (b"HTTP/1.1 200 OK\r\nX: y\r\nX-Cu", (None, None), "server", {("reset", "server")}),
    ],
)
def test_http1(
    answered: bytes, ends: tuple[int | None, int | None], reset_by: str | None, right: set[tuple[str, str | None]]
) -> None:
    [exchange] = decode(connection(ASKED, answered, ends=ends, reset_by=reset_by)).exchanges
    assert {(each.kind, each.by) for each in exchange.outcomes} == right


def streams(*frames: tuple[str, bytes], reset_by: str | None = None) -> Decoded:
    client, sides = h2c.Http2Sender(), {"client": PREFACE + h2c.settings(), "server": h2c.settings()}
    for number in (1, 3):
        sides["client"] += client.headers(number, h2c.request_fields("GET", f"/{number}"), end=True)
    for who, frame in frames:
        sides[who] += frame
    return decode(connection(sides["client"], sides["server"], reset_by=reset_by))


def test_http2() -> None:
    ended = [
        each.outcomes
        for each in streams(
            ("client", h2c.rst_stream(1, 8)), ("server", h2c.rst_stream(3, 7) + h2c.goaway(3, 0))
        ).exchanges
    ]
    assert ended == [
        (TrueOutcome("cancelled", "client", "CANCEL"),),
        (TrueOutcome("rst_stream", "server", "REFUSED_STREAM"),),
    ]
    ended = [each.outcomes for each in streams(("server", h2c.goaway(1, 0)), reset_by="server").exchanges]
    assert ended == [(TrueOutcome("reset", "server"),), (TrueOutcome("goaway", "server", "NO_ERROR"),)]


def complaints(told: dict[str, object], decoded: Decoded) -> list[str]:
    """The fields that are wrong in a record of the first exchange."""
    addresses = frozenset({SERVER[0]})
    [*_, exchange] = decoded.exchanges
    leg = Expected("server", addresses, None, decoded.connection, exchange, frozenset({"inbound"}), Duty.MAY)
    record = {"type": "http", "target": exchange.target, **told}
    return [each.field for each in differences(leg, reported(record), frozenset({Feature.PACKETS}), 1.0)]


MESSAGES = {"request": {"truncated": False}, "response": {"truncated": False}}


@pytest.mark.parametrize(
    ("told", "wrong"),
    [
        ({}, []),
        ({"outcome": "reset", "outcome_by": "server"}, []),
        ({"outcome": "reset"}, []),
        ({"outcome": "lost"}, []),
        ({"outcome": "a word of its own"}, []),
        ({"outcome": "complete"}, ["outcome"]),
        ({"outcome": "timeout", "outcome_by": "server"}, ["outcome"]),
        ({"outcome": "reset", "outcome_by": "client"}, ["outcome_by"]),
    ],
)
def test_what_is_told_of_a_reset(told: dict[str, object], wrong: list[str]) -> None:
    assert complaints(told, decode(connection(ASKED, CUT, reset_by="server"))) == wrong


@pytest.mark.parametrize(
    ("told", "wrong"),
    [
        ({"outcome": "complete"}, []),
        ({"outcome": "open"}, []),
        ({"outcome": "open", **MESSAGES}, ["outcome"]),
        ({"outcome": "reset"}, ["outcome"]),
    ],
)
def test_what_is_told_of_a_whole_exchange(told: dict[str, object], wrong: list[str]) -> None:
    assert complaints(told, decode(connection(ASKED, WHOLE))) == wrong


def test_what_is_told_of_an_error_code() -> None:
    decoded = streams(("server", h2c.rst_stream(3, 0x77)))
    assert complaints({"outcome": "rst_stream", "outcome_code": 0x77}, decoded) == []
    assert complaints({"outcome": "rst_stream", "outcome_code": "CANCEL"}, decoded) == ["outcome_code"]


V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes((203, 0, 113, 77, 10, 0, 0, 1)) + b"\x1e\x61\0\x50"


@pytest.mark.parametrize(
    ("header", "named"),
    [
        (b"PROXY TCP4 203.0.113.77 10.0.0.1 7777 80\r\n", ("203.0.113.77", 7777)),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 7777 80\r\n", ("2001:db8::1", 7777)),
        (b"PROXY UNKNOWN\r\n", None),
        (V2, ("203.0.113.77", 7777)),
        (V2.replace(b"\x21\x11", b"\x20\x11"), None),
    ],
)
def test_a_proxy_header_is_passed_over(header: bytes, named: tuple[str, int] | None) -> None:
    decoded = decode(connection(header + ASKED, WHOLE))
    [exchange] = decoded.exchanges
    assert (exchange.target, exchange.status, decoded.flaw) == ("/1", 200, "")
    assert (decoded.connection.has_proxy_header, decoded.connection.proxied_for) == (True, named)
    right = None if named is None else f"[{named[0]}]:{named[1]}" if ":" in named[0] else f"{named[0]}:{named[1]}"
    assert complaints({} if right is None else {"proxied_for": right}, decoded) == []
    assert complaints({"proxied_for": "127.0.0.6:40000"}, decoded) == ["proxied_for"]


def test_without_a_proxy_header_nobody_is_named() -> None:
    plain = connection(ASKED, WHOLE)
    assert decode(plain).connection == plain
    assert complaints({"proxied_for": "127.0.0.6:40000"}, decode(replace(plain))) == ["proxied_for"]
