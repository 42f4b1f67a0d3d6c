"""Every NDJSON record against the published JSON Schema, and nothing in a record that the schema does not describe."""

from __future__ import annotations

import copy
import io
import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tapper_wire import Capture, Wire, endpoint, get, ok

import tapper.output.ndjson as module
from tapper.discovery.finders import Finder, Finding, Verdict
from tapper.namespaces.identity import NamespaceId
from tapper.output.console import Console
from tapper.output.ndjson import SCHEMA, Ndjson
from tapper.output.records import Place, TlsProcess, Totals
from tapper.output.shape import Shape
from tapper.output.sink import Sink
from tapper.protocols.facts import ByteStream, Fact, RefusedAttempt, StreamBegin, StreamPart, Tls, WebSocketMessage
from tapper.protocols.grpc import NO_MESSAGES, Call, Messages
from tapper.protocols.headers import HeaderList
from tapper.protocols.messages import RequestHead, ResponseHead
from tapper.protocols.outcome import ExchangeOutcome, MalformedPart, OutcomeKind
from tapper.protocols.records import FactRecord
from tapper.protocols.streaming import EVENT, MESSAGE, PIECE
from tapper.run.replay import Replay
from tapper.run.writer import RecordWriter
from tapper.streams.connection import Leg
from tapper.streams.connection import WireSecurity as Kind
from tapper.streams.legs import Direction
from tapper.targets.addresses import parse_address
from tapper.targets.pods import PodName

POD = Place("pod", 4026531999, "lo", 77, "10.0.0.2")
PLACES = [POD, Place("node", 4026531840, "any"), Place("file", None, "eth0")]

Record = dict[str, Any]


def published() -> Record:
    found = json.loads(Path(module.__file__).with_name("ndjson.schema.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def strict() -> Any:
    """The schema, closed: readers accept more fields, the tapper writes none that are not described."""
    schema = published()
    for definition in schema["$defs"].values():
        if "properties" in definition:
            definition["additionalProperties"] = False
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def records(text: str) -> list[Record]:
    return [json.loads(line) for line in text.splitlines()]


def every_record() -> Iterator[Record]:
    """Whatever the tapper says, in its variants."""
    form = Ndjson()
    yield from records(form.hello("1.2", 5))
    for place in PLACES:
        yield from records(form.source("open", place) + form.source("closed", place) + form.stat(place, Totals()))
    yield from records(form.stat(None, Totals(received=9, undecoded={"tls": 4}), so_far=True))
    yield from records(form.bye(Totals(exchanges=3, undecoded={"tls": 4})))
    wire = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nSum: 9\r\n\r\n"
    packets = [*wire.handshake(), wire.ask(get("/a")), wire.answer(chunked), wire.answer(ok("x")), wire.ask(get("/b"))]
    for place in PLACES:
        for seen_record in Capture().feed(packets).finish().seen:
            yield from records(form.exchange(place, seen_record))
    found: list[Finding] = [
        Finding(
            77,
            "/usr/local/bin/envoy",
            NamespaceId(4, 999),
            Verdict.ENVOY,
            None,
            "fd00::1",
            Finder.ENVOY,
            parse_address("fd00::1"),
        ),
        Finding(2, None, None, Verdict.OTHER, "no executable"),
    ]
    yield from records(form.processes(found, {}))
    yield from records(form.processes(found, {NamespaceId(4, 999): frozenset({parse_address("fd00::1")})}))
    yield from records(form.ack(7))
    leg = Leg("10.0.0.2", Direction.INBOUND, endpoint("127.0.0.6:40000"), endpoint("10.0.0.2:8080"))
    for fact in (Tls(5, "shop", ("h2",)), Tls(5, None, ()), ByteStream(5, "other", (1, 2), 0, (b"a", b"\xff"), True)):
        yield from records(form.fact(POD, FactRecord(leg, fact)))
        yield from records(form.fact(POD, FactRecord(replace(leg, plaintext="openssl"), fact)))
    processes = [TlsProcess("10.0.0.2", 7, "node", "openssl", None), TlsProcess("10.0.0.2", 8, "java", "JSSE", "why")]
    yield from records(form.tls_processes(processes) + form.unreadable(processes[1]))
    proxied = replace(leg, proxied_for=endpoint("192.0.2.1:5000"))
    for fact in (Tls(5, None, ()), ByteStream(5, "other", (1, 2), 0, (b"", b""), True)):
        yield from records(form.fact(POD, FactRecord(proxied, fact)))
    yield from records(form.fact(POD, FactRecord(leg, RefusedAttempt(5, 3))))
    parts = (MalformedPart("request", "a field line without a colon", "a\x1b"), MalformedPart("response", "b", None))
    for outcome in (
        ExchangeOutcome(OutcomeKind.RST_STREAM, "server", "REFUSED_STREAM"),
        ExchangeOutcome(OutcomeKind.GOAWAY, "client", 77, parts),
        ExchangeOutcome(OutcomeKind.COMPLETE, malformed=parts),
    ):
        for seen_record in Capture().feed(packets).finish().seen:
            seen_record.exchange.outcome = outcome
            yield from records(form.exchange(POD, replace(seen_record, leg=proxied)))
    asked = RequestHead(5, 0, 0, "GET", "/sse", "HTTP/1.1", HeaderList((("Host", "a"),)), 9)
    begin = StreamBegin("7-1", asked, ResponseHead(6, 0, 0, 200, "OK", "HTTP/1.1", HeaderList(), 9))
    asked_only = StreamBegin("7-2", replace(asked, method="", target=""), None)
    part = StreamPart(5, "7-1", EVENT, "server", 9, b"a\nb", False, "tick", "4", False, 0)
    parts_of_stream = [replace(part, kind=MESSAGE, compressed=True), replace(part, kind=PIECE, truncated=True)]
    unnamed = replace(part, event=None, event_id=None, left_out=3)
    told_while_it_goes_on: list[Fact] = [begin, asked_only, part, unnamed, *parts_of_stream]
    for stream_fact in told_while_it_goes_on:
        yield from records(form.fact(POD, FactRecord(leg, stream_fact)))
    for opcode in (1, 2):
        message = WebSocketMessage(5, "7-1", "client", opcode, 3, b"abc", truncated=False, deflated=False)
        yield from records(form.fact(POD, FactRecord(leg, message)))
    probing = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
    probe = get("/ready").replace(b"Host", b"User-Agent: kube-probe/1.30\r\nHost")
    for seen_record in Capture().feed([*probing.handshake(), probing.ask(probe), probing.answer(ok("x"))]).seen:
        for kind, mtls in ((None, None), (Kind.TLS, True), (Kind.PLAIN, False)):
            leg = replace(seen_record.leg, wire=kind, plaintext=None if kind else "gnutls")
            (it,) = records(form.exchange(POD, replace(seen_record, leg=leg)))
            assert (it["probe"], it["mtls"]) == (True, mtls)
            yield it
    call = Call("demo.Echo", "Say", 0, None, Messages(1, (5,), exact=True), NO_MESSAGES)
    told = replace(POD, verified=True, found_by="envoy", pods={"10.0.0.2": PodName("default", "shop")})
    yield from records(form.source("open", told) + form.stat(told, Totals()))
    for seen_record in Capture().feed(packets).finish().seen:
        exchange = replace(seen_record.exchange, grpc=call, incomplete="header table unknown", pushed=True, id="7-1")
        yield from records(form.exchange(told, replace(seen_record, exchange=exchange)))


def test_every_record_is_what_the_schema_says() -> None:
    validator = strict()
    seen = set()
    for record in every_record():
        validator.validate(record)
        seen.add(record["type"])
    assert seen == set(published()["properties"]["type"]["enum"]), "every type was written"


def test_a_run_is_what_the_schema_says() -> None:
    """Records as a run has them, from a file."""
    wire = Wire((("10.0.0.3", 40000), ("10.0.0.2", 8080)))
    file = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 101)
    for raw in [*wire.handshake(), *wire.exchange("/a", "b"), *wire.close()]:
        file += struct.pack("<IIII", 5, 0, len(raw), len(raw)) + raw
    output = io.BytesIO()
    replay = Replay(frozenset(), RecordWriter(Sink(output), Ndjson(), Console(io.StringIO()), Shape()))
    replay.run(io.BytesIO(file), "x")
    said = records(output.getvalue().decode())
    validator = strict()
    for record in said:
        validator.validate(record)
    assert [record["type"] for record in said] == ["hello", "source", "http", "source", "stat", "stat", "bye"]


@pytest.mark.parametrize(
    "kind",
    [
        *("hello", "source", "http", "stat", "bye", "process", "ack", "tls", "stream", "websocket", "connection"),
        *("begin", "event", "message", "data"),
    ],
)
def test_the_schema_refuses(kind: str) -> None:
    """The canary: a record without a required field, with a wrong type, or with an undescribed field is refused."""
    validator = strict()
    record = next(it for it in every_record() if it["type"] == kind)
    required = published()["$defs"][kind]["required"]
    for name in required:
        assert not validator.is_valid({key: value for key, value in record.items() if key != name}), name
        if name != "type":
            assert not validator.is_valid({**record, name: [object]}), name
    wrong = copy.deepcopy(record) | {"surprise": 1}
    assert not validator.is_valid(wrong)
    assert jsonschema.Draft202012Validator(published()).is_valid(wrong), "readers accept what they do not know"


def test_the_schema_knows_every_direction_and_its_own_version() -> None:
    definitions = published()["$defs"]
    assert set(definitions["http"]["properties"]["direction"]["enum"]) == set(Direction)
    assert definitions["hello"]["properties"]["schema"]["const"] == SCHEMA
    assert not strict().is_valid({"type": "unheard-of"})
