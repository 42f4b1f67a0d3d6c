"""Redaction, filters and body limits: what comes out of what was seen."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from tapper_wire import Capture, Wire, exchanges, get, ok, one_packet

from tapper.cli import main
from tapper.errors import UsageError
from tapper.output.filters import Filter
from tapper.output.ndjson import Ndjson
from tapper.output.records import Place, Totals
from tapper.output.redaction import Redaction
from tapper.output.shape import Shape
from tapper.protocols.records import ExchangeRecord, Record
from tapper.protocols.session import Session
from tapper.streams.connection import Scope
from tapper.streams.connections import Connections

POD = Place("pod", 4026531999, "lo", 77, "10.0.0.2")


def seen(request: bytes | None, response: bytes | None) -> ExchangeRecord:
    wire = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
    packets = wire.handshake()
    packets += [wire.ask(request)] if request else []
    packets += [wire.answer(response)] if response else []
    (seen_record,) = Capture().feed(packets).finish().seen
    return seen_record


SECRET = "s3cr3t-0815"
SECRETIVE = (
    (
        f"POST / HTTP/1.1\r\nauthorization: Bearer {SECRET}\r\nX-Canary: seen\r\nCookie: a={SECRET}\r\n"
        f"COOKIE: b={SECRET}\r\nX-Mark: {SECRET}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
        f"X-mARK: {SECRET}\r\nT: t\r\n\r\n"
    ).encode(),
    (
        f"HTTP/1.1 200 OK\r\nSet-Cookie: {SECRET}\r\nProxy-Authorization: {SECRET}\r\nX-Canary: also\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n"
        f"Set-Cookie: {SECRET}\r\n\r\n"
    ).encode(),
)


def test_redaction_takes_the_values_and_leaves_everything_else() -> None:
    seen_record = seen(*SECRETIVE)
    assert Ndjson().exchange(POD, seen_record).count(SECRET) == 8, "the canary: it is there to be taken out"
    Redaction(["x-mark"]).apply(seen_record)
    exchange = seen_record.exchange
    assert SECRET not in repr(exchange)
    assert exchange.request is not None
    assert exchange.response is not None
    assert exchange.request.head.headers == (
        ("authorization", "[redacted]"),
        ("X-Canary", "seen"),
        ("Cookie", "[redacted]"),
        ("COOKIE", "[redacted]"),
        ("X-Mark", "[redacted]"),
        ("Transfer-Encoding", "chunked"),
    )
    assert exchange.request.end.trailers == (("X-mARK", "[redacted]"), ("T", "t"))
    assert exchange.response.head.headers[2] == ("X-Canary", "also")
    assert exchange.response.end.trailers == (("Set-Cookie", "[redacted]"),)


def test_redaction_is_the_default_and_names_only_what_it_names() -> None:
    line = Ndjson().exchange(POD, exchanges(Shape().apply([seen(*SECRETIVE)], Totals()))[0])
    assert line.count(SECRET) == 2, "X-Mark, as header and as trailer, is nobody's secret unless somebody says so"
    raw = exchanges(Shape(redaction=None).apply([seen(*SECRETIVE)], Totals()))
    assert Ndjson().exchange(POD, raw[0]).count(SECRET) == 8


def test_redaction_of_what_varies_from_head_to_head() -> None:
    """Cookies that change beside a value that changes, and one that does not."""
    shape, form = Shape(redaction=Redaction(["x-mark"])), Ndjson()
    wire = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
    packets = wire.handshake()
    for number in range(6):
        head = f'Host: h\r\nCookie: {SECRET}{number}\r\nX-Id: id-{number}\r\nX-Mark: {SECRET}\r\nX: "\r\n'
        packets += [wire.ask(f"GET /{number} HTTP/1.1\r\n{head}\r\n".encode()), wire.answer(ok())]
    made = exchanges(shape.apply(Capture().feed(packets).finish().seen, Totals()))
    for number, seen_record in enumerate(made):
        line = form.exchange(POD, seen_record)
        record = json.loads(line)
        assert record["target"] == f"/{number}"
        assert record["request"]["headers"] == [
            ["Host", "h"],
            ["Cookie", "[redacted]"],
            ["X-Id", f"id-{number}"],
            ["X-Mark", "[redacted]"],
            ["X", '"'],
        ]
        assert seen_record.exchange.request is not None
        assert dict(seen_record.exchange.request.head.headers)["X-Id"] == f"id-{number}"
        assert SECRET not in line
    assert len(made) == 6


def asked(target: str = "/", method: str = "GET", host: str = "shop.example", status: int = 200) -> ExchangeRecord:
    return seen(
        f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(),
        f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode(),
    )


@pytest.mark.parametrize(
    ("condition", "passing", "other"),
    [
        ({"method": ["POST", "PUT"]}, asked(method="PUT"), asked(method="GET")),
        ({"method": ["get"]}, asked(method="get"), asked(method="GET")),
        ({"path": ["/orders"]}, asked("/orders/1?a=b"), asked("/cart?x=/orders")),
        ({"path": ["/orders/*"]}, asked("/orders/1/2?a=b"), asked("/orders")),
        ({"path": ["/a?c"]}, asked("/abc"), asked("/abcd")),
        ({"path": ["*.png"]}, asked("/x/y.png?v=1"), asked("/x/y.pngx")),
        ({"path": ["/a.c*"]}, asked("/a.c"), asked("/abc")),
        ({"path": ["/a"]}, asked("http://shop.example/a"), asked("http://shop.example/b/a")),
        ({"path": ["/"]}, asked("/x?u=http://a"), asked("*", method="OPTIONS")),
        ({"status": ["404"]}, asked(status=404), asked(status=200)),
        ({"status": ["5xx", "404"]}, asked(status=503), asked(status=403)),
        ({"status": ["5XX"]}, asked(status=503), asked(status=403)),
        ({"host": ["SHOP.example"]}, asked(host="shop.EXAMPLE:8080"), asked(host="shop.example.org")),
        ({"host": ["shop.example:80"]}, asked(host="shop.example:80"), asked(host="shop.example:8080")),
        ({"host": ["*.example"]}, asked(host="a.b.example"), asked(host="example")),
        ({"host": ["[fd00::1]"]}, asked(host="[fd00::1]:80"), asked(host="[fd00::2]:80")),
        ({"host": ["a"]}, asked("http://a/x", host="b"), asked("http://b/x", host="a")),
        ({"method": ["GET"], "status": ["200"]}, asked(), asked(status=404)),
        ({"method": ["GET"], "status": ["200"]}, asked(), asked(method="PUT")),
    ],
)
def test_filters(condition: dict[str, list[str]], passing: ExchangeRecord, other: ExchangeRecord) -> None:
    totals = Totals()
    assert Shape(filter=Filter(**condition)).apply([passing, other], totals) == [passing]
    assert totals.filtered == 1


def test_what_was_not_seen_meets_no_condition() -> None:
    unasked, unanswered = seen(None, ok()), seen(get("/"), None)
    for condition in ({"method": ["GET"]}, {"path": ["/"]}, {"host": ["test"]}):
        assert not Filter(**condition).passes(unasked.exchange)
        assert Filter(**condition).passes(unanswered.exchange)
    assert Filter(status=["200"]).passes(unasked.exchange)
    assert not Filter(status=["200"]).passes(unanswered.exchange)
    assert Filter().passes(unasked.exchange)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--method", "GET POST"),
        ("--method", ""),
        ("--path", "orders"),
        ("--status", "40"),
        ("--status", "5x0"),
        ("--status", "0xx"),
        ("--host", "http://shop/"),
        ("--body-limit", "-1"),
        ("--body-limit", "1k"),
        ("--redact", "X Key"),
        ("--keep", "X Key"),
        ("--keep", "X-Request-Id"),
    ],
)
def test_bad_values_are_refused_with_a_sentence(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tap", "--filter-authorities", "10.0.0.1", f"{option}={value}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"tapper: {value!r} is not ")
    assert f"({option})" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("first", [["--no-redact"], ["--redact", "api-key"]])
@pytest.mark.parametrize("option", ["--redact", "--keep"])
def test_options_that_contradict_each_other(first: list[str], option: str, capsys: pytest.CaptureFixture[str]) -> None:
    if first[0] == option:
        return
    assert main(["tap", "--filter-authorities", "10.0.0.1", *first, option, "API_KEY"]) == 2
    assert "contradict" in capsys.readouterr().err


def test_a_name_is_checked_where_it_is_used() -> None:
    with pytest.raises(UsageError, match="header field"):
        Redaction(["a:b"])


@pytest.mark.parametrize("limit", [0, 3, 100])
def test_body_limit(limit: int) -> None:
    """What is kept is the beginning; the size is the whole, and `truncated` says which it is."""
    wire = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
    connections: Connections[Record] = Connections(
        Scope("10.0.0.2", None), lambda connection: Session(connection, lambda _: None, body_limit=limit)
    )
    found: list[ExchangeRecord] = []
    for raw in [
        *wire.handshake(),
        wire.ask(b"PUT / HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd"),
        wire.answer(ok("wxyz")),
    ]:
        found += exchanges(one_packet(connections, 1, raw))
    (seen_record,) = found
    for message, body in ((seen_record.exchange.request, b"abcd"), (seen_record.exchange.response, b"wxyz")):
        assert message is not None
        kept: dict[str, Any] = {"body": message.end.body, "size": message.end.size, "cut": message.end.truncated}
        assert kept == {"body": body[:limit], "size": 4, "cut": limit < 4}
    assert base64.b64encode(b"abcd"[:limit]).decode() in Ndjson().exchange(POD, seen_record)


def test_what_is_filtered_is_counted() -> None:
    totals = Totals()
    exchange_records = [seen(get(), ok()), seen(get("/"), None), seen(None, ok())]
    assert Shape().apply(exchange_records, totals) == exchange_records
    assert totals.filtered == 0
    assert not Shape(filter=Filter(status=["404"])).apply(exchange_records, totals)
    assert totals.filtered == 3
