from __future__ import annotations

import io
import json
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from tapper_wire import Capture, Wire, get, ok

from tapper.discovery.finders import Finder, Finding, Verdict
from tapper.namespaces.identity import NamespaceId
from tapper.output.console import Console
from tapper.output.escape import escape, wants_colour
from tapper.output.ndjson import Ndjson
from tapper.output.records import Place, Stat, Totals
from tapper.output.sink import Closed, Sink
from tapper.output.text import Text, size, summary
from tapper.protocols.records import ExchangeRecord
from tapper.streams.bounds import Tally
from tapper.streams.connection import WireSecurity as LegWire

POD = Place("pod", 4026531999, "lo", 77, "10.0.0.2")
NODE = Place("node", 4026531840, "any")


def records(*messages: tuple[bytes, bytes | None]) -> list[ExchangeRecord]:
    wire = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
    packets = wire.handshake()
    for request, response in messages:
        packets += [wire.ask(request)] if request else []
        packets += [wire.answer(response)] if response else []
    return Capture().feed(packets).finish().seen


POST = (
    b"POST /a?b=c HTTP/1.1\r\nHost: h\r\nX-Two: 1\r\nx-two: 2\r\nBin: \xff\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\n\x00\x01\xff\r\n0\r\nSum: 9\r\n\r\n"
)


def record(line: str) -> dict[str, Any]:
    assert line.endswith("\n")
    assert line.count("\n") == 1
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


def test_ndjson_of_an_exchange() -> None:
    (seen_record,) = records((POST, ok("hi")))
    assert record(Ndjson().exchange(POD, seen_record)) == {
        "type": "http",
        "ts": 1_700_000_000.004,
        "pod_ip": "10.0.0.2",
        "direction": "inbound",
        "src": "127.0.0.6:40000",
        "dst": "10.0.0.2:8080",
        "mtls": None,
        "method": "POST",
        "target": "/a?b=c",
        "version": "HTTP/1.1",
        "status": 200,
        "request": {
            "headers": [
                ["Host", "h"],
                ["X-Two", "1"],
                ["x-two", "2"],
                ["Bin", "\xff"],
                ["Transfer-Encoding", "chunked"],
            ],
            "body_b64": "AAH/",
            "body_size": 3,
            "truncated": False,
            "trailers": [["Sum", "9"]],
        },
        "response": {
            "headers": [["Content-Length", "2"]],
            "body_b64": "aGk=",
            "body_size": 2,
            "truncated": False,
            "trailers": [],
        },
        "duration_s": 0.001,
        "outcome": "complete",
        "netns": 4026531999,
    }


def test_ndjson_names_the_content_coding_and_keeps_the_bytes() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: 2\r\nCONTENT-ENCODING: gzip\r\n\r\nhi"
    (only,) = records((get("/x"), answer))
    told = record(Ndjson().exchange(POD, only))
    assert told["response"]["content_encoding"] == "deflate, gzip"
    assert told["response"]["body_b64"] == "aGk="
    assert "content_encoding" not in told["request"]


def test_ndjson_of_half_an_exchange() -> None:
    unanswered, unasked = records((b"", ok("hi")), (get("/x"), None))[::-1]
    assert {
        key: record(Ndjson().exchange(POD, unanswered))[key] for key in ("method", "status", "response", "duration_s")
    } == {
        "method": "GET",
        "status": None,
        "response": None,
        "duration_s": None,
    }
    half = record(Ndjson().exchange(POD, unasked))
    assert [half[key] for key in ("method", "target", "request", "status", "version")] == [
        None,
        None,
        None,
        200,
        "HTTP/1.1",
    ]


def test_ndjson_of_the_rest() -> None:
    form = Ndjson()
    assert record(form.hello("1.2", 5)) == {
        "type": "hello",
        "tapper": "tapper-harness reference",
        "version": "1.2",
        "contract": 1,
        "schema": 2,
        "pid": 5,
    }
    place = {"kind": "pod", "pid": 77, "instance_ip": "10.0.0.2", "netns": 4026531999, "interface": "lo"}
    assert record(form.source("open", POD)) == {"type": "source", "state": "open", **place}
    counts = ("unread", "postponed", "malformed", "mesh", "connections", "given_up", "refused")
    none = dict.fromkeys(("filtered", "bad_checksum", *counts), 0)
    counted = {"received": 9, "dropped": 2, "cut": 1, "gaps": 1, "gap_bytes": 77, "exchanges": 3, "incomplete": 1}
    totals = Totals(sources=1, exchanges=3, incomplete=1, undecoded={"tls": 4}, passed_over={"UDP": 1})
    totals.add(Stat(9, 2, 1), Tally(gaps=1, gap_bytes=77, passed_over={"UDP": 2, "ESP": 3}))
    expected = {"type": "stat", **counted, "undecoded": {"tls": 4}, "passed_over": {"UDP": 3, "ESP": 3}, **none}
    assert record(form.stat(POD, totals)) == {**expected, **place}
    assert record(form.stat(None, totals, so_far=True)) == {**expected, "so_far": True}
    bye = record(form.bye(Totals(exchanges=3, undecoded={"tls": 4})))
    assert (bye["type"], bye["exchanges"], bye["undecoded"]) == ("bye", 3, {"tls": 4})


FOUND: list[Finding] = [
    Finding(
        77,
        "/usr/local/bin/envoy",
        NamespaceId(4, 999),
        Verdict.ENVOY,
        None,
        "fd00::1",
        Finder.ENVOY,
        ip_address("fd00::1"),
    ),
    Finding(78, "/x/\udcff\x1b[2J", NamespaceId(4, 999), Verdict.LOOK_ALIKE, "it has an INSTANCE_IP", "10.0.0.1"),
    Finding(2, None, None, Verdict.OTHER, "no executable"),
]


def test_ndjson_of_processes() -> None:
    lines = [record(line + "\n") for line in Ndjson().processes(FOUND, {}).splitlines()]
    assert lines[0] == {
        "type": "process",
        "pid": 77,
        "exe": "/usr/local/bin/envoy",
        "instance_ip": "fd00::1",
        "owned": None,
        "verified": None,
        "netns": 999,
        "found_by": "envoy",
        "verdict": "envoy",
        "reason": None,
    }
    assert [line["verdict"] for line in lines] == ["envoy", "look-alike", "other"]
    assert lines[2]["exe"] is None


def test_text_of_processes_is_aligned_and_escaped() -> None:
    lines = Text().processes(FOUND, {}).splitlines()
    assert [line.split()[0] for line in lines] == ["PID", "77", "78", "2"]
    column = lines[0].index("VERDICT")
    assert [line[column:].split()[0] for line in lines[1:]] == ["envoy", "look-alike", "other"]
    assert r"/x/\udcff\x1b[2J" in lines[2]


def test_text_of_an_exchange() -> None:
    (seen_record,) = records((get("/orders/1"), ok("x" * 512)))
    line = Text().exchange(POD, seen_record)
    columns = "10.0.0.2 inbound 127.0.0.6:40000 -> 10.0.0.2:8080 GET /orders/1 200 512 B 1.0 ms"
    assert " ".join(line.split()[1:]) == columns


def test_text_columns_are_aligned() -> None:
    lines = [Text().exchange(POD, seen_record) for seen_record in records((get("/1"), ok("")), (get("/2"), None))]
    assert lines[0].index("GET") == lines[1].index("GET")
    assert lines[1].endswith("GET /2  (no response seen)  [open]\n")


def test_text_says_truncated_and_unseen() -> None:
    lines = [Text().exchange(POD, it) for it in records((b"", ok("a")), (get("/2"), ok("abc")[:-1]))]
    assert "(request not seen)  200  1 B" in lines[0]
    assert "200  2 B+" in lines[1]


def test_nothing_from_the_wire_reaches_a_terminal_raw() -> None:
    (seen_record,) = records((b"GET /\x9b31m\xc3\xa9" + b"y" * 500 + b" HTTP/1.1\r\n\r\n", ok("")))
    line = Text().exchange(POD, seen_record)
    assert line.isascii()
    assert line.removesuffix("\n").isprintable()
    assert r"/\x9b31m\xc3\xa9yyy" in line
    assert "y..." in line
    assert len(line) < 400


def test_verbose_shows_headers_bodies_and_trailers_escaped() -> None:
    hostile = POST.replace(b"\x00\x01\xff", b"\x1b\n\xff")
    (seen_record,) = records((hostile, ok("one\r\ntwo")))
    first, *rest = Text(verbose=True).exchange(POD, seen_record).splitlines()
    assert first + "\n" == Text().exchange(POD, seen_record)
    assert rest == [
        "    > POST /a?b=c HTTP/1.1",
        "    > Host: h",
        "    > X-Two: 1",
        "    > x-two: 2",
        r"    > Bin: \xff",
        "    > Transfer-Encoding: chunked",
        "    >",
        r"    > \x1b",
        r"    > \xff",
        "    > Sum: 9",
        "    < HTTP/1.1 200 OK",
        "    < Content-Length: 8",
        "    <",
        "    < one",
        "    < two",
    ]


def test_verbose_says_what_it_does_not_show() -> None:
    (long,) = records((get("/" + "x" * 2000), ok("y" * 3000)))
    lines = Text(verbose=True).exchange(POD, long).splitlines()
    assert lines[-2:] == ["    < " + "y" * 1000 + "...", "    < [1976 more bytes]"]
    assert max(map(len, lines)) < 1100
    (cut,) = records((get(), ok("abc")[:-1]))
    assert Text(verbose=True).exchange(POD, cut).splitlines()[-2:] == ["    < ab", "    < [the rest was not seen]"]


@pytest.mark.parametrize(
    ("environ", "terminal", "expected"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True),
        ({"TERM": "xterm", "NO_COLOR": "0"}, True, False),
        ({"TERM": "dumb"}, True, False),
        ({}, True, False),
        ({"TERM": "xterm"}, False, False),
    ],
)
def test_when_there_is_colour(environ: dict[str, str], terminal: bool, expected: bool) -> None:
    assert wants_colour(environ, terminal=terminal) is expected


def test_verbose_says_what_is_known_of_the_leg() -> None:
    request = b"GET /ready HTTP/1.1\r\nUser-Agent: kube-probe/1.30\r\n\r\n"
    (seen_record,) = records((request, ok("")))
    told = replace(seen_record, leg=replace(seen_record.leg, wire=LegWire.TLS))
    lines = Text(verbose=True).exchange(POD, told).splitlines()
    assert lines[1:3] == ["    * mTLS on the wire", "    * looks like a health probe"]


def test_escape() -> None:
    assert escape("a b~\x00\x1b\x7f\x80\u2028\U0001f600\udcff") == r"a b~\x00\x1b\x7f\x80\u2028\U0001f600\udcff"


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (1 << 20, "1.0 MiB"), (5 << 50, "5120.0 TiB")],
)
def test_size(count: int, expected: str) -> None:
    assert size(count) == expected


def test_totals_add_up_and_are_summed_up() -> None:
    totals = Totals(exchanges=1, sources=2, undecoded={"tls": 2, "http2": 1})
    totals.add(Stat(10, 3, 1), Tally(packets=10, malformed=2, gaps=1, gap_bytes=77, given_up=4))
    totals.add(Stat(5, 0), Tally(packets=5, connections=3))
    assert summary(totals).splitlines() == [
        "1 exchange from 2 sources; 15 packets received, 3 dropped by the kernel",
        "connections that were not decoded: 1 http2, 2 tls",
        "1 gap in the streams, 77 bytes missing",
        "1 packet captured in part only",
        "2 packets malformed",
        "4 connections given up to stay within memory bounds",
    ]
    assert len(summary(Totals()).splitlines()) == 1


class Broken(io.BytesIO):
    def flush(self) -> None:
        raise BrokenPipeError


def test_a_reader_that_has_gone_is_said_so() -> None:
    stream = Broken()
    with pytest.raises(Closed):
        Sink(stream).write("x")


def test_the_console_warns_once_and_keeps_progress_for_terminals() -> None:
    stream = io.StringIO()
    console = Console(stream)
    console.warn_once("a", "first")
    console.warn_once("a", "second")
    console.warn_once("b", "third")
    console.progress("nobody looks on")
    assert stream.getvalue() == "tapper: first\ntapper: third\n"
