"""Wrong reports, each with what the oracle has to say of it: by kind and field of the difference."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from oracle_world import BESIDE_TLS, Record, World

from harness.conformance.oracle.model import DifferenceKind

INVENTED, MISSING, REPEATED, WRONG = (
    DifferenceKind.INVENTED,
    DifferenceKind.MISSING,
    DifferenceKind.REPEATED,
    DifferenceKind.WRONG,
)
_WAYS = {"inbound": "outbound", "outbound": "inbound", "node": "inbound"}


@dataclass(frozen=True, slots=True)
class Wrong:
    """One way to report wrongly. `change` gets a record that it may alter, and returns what is told in its place."""

    name: str
    kind: DifferenceKind
    field: str
    which: Callable[[Record], bool]
    change: Callable[[Record], list[Record]]


def found(world: World, fault: Wrong, *, everywhere: bool = True) -> bool:
    """Whether the oracle tells this fault when one record has it, whichever of those that can have it.

    With `everywhere` off only the first and the last of them are tried.
    """
    several = [number for number, record in enumerate(world.records) if fault.which(record)]
    several = several if everywhere else sorted({*several[:1], *several[-1:]})
    if not several:
        raise ValueError(f"no record of the world can have the fault {fault.name}")
    for number in several:
        records = [copy.deepcopy(record) for record in world.records]
        told = [*records[:number], *fault.change(records[number]), *records[number + 1 :]]
        differences = world.judged(world.question(told))
        if not any((each.kind, each.field) == (fault.kind, fault.field) for each in differences):
            return False
    return True


def _inner(record: Record) -> bool:
    """Whether it is of the midst, where the tapper has proven that it looked."""
    if record["direction"] == "node":
        return False
    return record["status"] not in (200, 101) or record["target"] == "/healthz" or "grpc" in record


def _any(_: Record) -> bool:
    return True


def _with(name: str, value: Callable[[Any], Any]) -> Callable[[Record], list[Record]]:
    return lambda record: [record | {name: value(record[name])}]


def _message(which: str, name: str, value: Callable[[Any], Any]) -> Callable[[Record], list[Record]]:
    return lambda record: [record | {which: record[which] | {name: value(record[which][name])}}]


def _body(change: Callable[[bytes], bytes]) -> Callable[[Record], list[Record]]:
    return _message("response", "body_b64", lambda body: base64.b64encode(change(base64.b64decode(body))).decode())


def _call(name: str, value: object) -> Callable[[Record], list[Record]]:
    return lambda record: [record | {"grpc": record["grpc"] | {name: value}}]


def _one_message_less(record: Record) -> list[Record]:
    return [record | {"grpc": record["grpc"] | {"responses": {"count": 1, "exact": True}}}]


def _merged(lines: list[list[str]]) -> list[list[str]]:
    """Lines of one name joined by commas, as RFC 9110 (section 5.3) allows a recipient."""
    joined: dict[str, str] = {}
    for name, value in lines:
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return [list(line) for line in joined.items()]


def _with_markers(record: Record) -> bool:
    """Whether its messages have fields of their own."""
    return any(name == "X-Answered" for name, _ in record["response"]["headers"])


def _last_only(lines: list[list[str]]) -> list[list[str]]:
    return [list(line) for line in {name: value for name, value in lines}.items()]  # noqa: C416


def _has_body(record: Record) -> bool:
    return bool(_body_of_response(record))


def _has_trailers(record: Record) -> bool:
    return bool(record["response"]["trailers"])


def _no_trailers(record: Record) -> bool:
    return not _has_trailers(record)


def _is_call(record: Record) -> bool:
    return "grpc" in record


def _between_pods(record: Record) -> bool:
    return bool(record["direction"] == "node")


def _has_mtls(right: bool | None) -> Callable[[Record], bool]:
    """Records with this word on mTLS; of those without one, the one that is beside another leg's TLS."""
    return lambda record: record["mtls"] is right and (right is not None or record["status"] == BESIDE_TLS)


def _always(value: Any) -> Callable[[Any], Any]:
    return lambda _: value


def _has_several(record: Record) -> bool:
    names = [name for name, _ in record["response"]["headers"]]
    return len(names) > len(set(names))


def _body_of_response(record: Record) -> bytes:
    return base64.b64decode(record["response"]["body_b64"])


FAULTS = [
    Wrong("lost", MISSING, "", _inner, lambda _: []),
    Wrong("twice", REPEATED, "", _any, lambda record: [record, copy.deepcopy(record)]),
    Wrong(
        "a probe besides",
        INVENTED,
        "",
        lambda record: record["direction"] == "inbound",
        lambda record: [record, record | {"method": "GET", "target": "/livez"}],
    ),
    Wrong(
        "an answer again, without its request",
        REPEATED,
        "",
        _inner,
        lambda record: [record, record | {"method": None, "target": None, "request": None}],
    ),
    Wrong("way", WRONG, "direction", _any, _with("direction", _WAYS.__getitem__)),
    Wrong(
        "pod",
        WRONG,
        "pod_ip",
        lambda record: "nonce" in record["target"] and not _between_pods(record),
        _with("pod_ip", lambda ip: {"10.244.0.1": "10.244.0.2", "10.244.0.2": "10.244.0.1"}[ip]),
    ),
    Wrong("no pod", MISSING, "pod_ip", _inner, _with("pod_ip", lambda _: None)),
    Wrong(
        "namespace", WRONG, "netns", lambda record: not _between_pods(record), _with("netns", lambda number: number + 7)
    ),
    Wrong(
        "source",
        WRONG,
        "src",
        lambda record: "nonce" in record["target"],
        _with("src", lambda _: "203.0.113.77:4711"),
    ),
    Wrong("destination", WRONG, "dst", _any, _with("dst", lambda _: "203.0.113.77:80")),
    Wrong("method", WRONG, "method", _any, _with("method", str.lower)),
    Wrong(
        "target",
        WRONG,
        "target",
        lambda record: "nonce" in record["target"],
        _with("target", lambda target: "/" + target),
    ),
    Wrong(
        "target without its end",
        WRONG,
        "target",
        lambda record: "nonce" in record["target"] and _inner(record),
        _with("target", lambda target: target[:9]),
    ),
    Wrong("status", WRONG, "status", _any, _with("status", lambda status: status + 1)),
    Wrong("no answer", MISSING, "status", _inner, lambda record: [record | {"status": None, "response": None}]),
    Wrong("version", WRONG, "version", _any, _with("version", lambda _: "HTTP/3")),
    Wrong("an hour late", WRONG, "ts", _any, _with("ts", lambda ts: ts + 3600)),
    Wrong("in milliseconds", WRONG, "ts", _any, _with("ts", lambda ts: ts * 1000)),
    Wrong("duration", WRONG, "duration_s", lambda record: "duration_s" in record, _with("duration_s", lambda s: s + 5)),
    Wrong("ends before it begins", WRONG, "duration_s", lambda r: "duration_s" in r, _with("duration_s", lambda s: -s)),
    Wrong(
        "the answer's fields shown for the request's",
        WRONG,
        "request.headers",
        _with_markers,
        lambda record: [record | {"request": record["request"] | {"headers": record["response"]["headers"]}}],
    ),
    Wrong(
        "a value cut",
        WRONG,
        "request.headers",
        lambda record: "nonce" in record["target"],
        _message("request", "headers", lambda lines: [[lines[0][0], lines[0][1][:-1]], *lines[1:]]),
    ),
    Wrong("lines joined", WRONG, "response.lines", _has_several, _message("response", "headers", _merged)),
    Wrong(
        "last line of a name only",
        WRONG,
        "response.lines",
        _has_several,
        _message("response", "headers", _last_only),
    ),
    Wrong(
        "a field left out",
        WRONG,
        "request.lines",
        lambda record: _inner(record) and len(record["request"]["headers"]) > 1,
        _message("request", "headers", lambda lines: lines[1:]),
    ),
    Wrong(
        "another order",
        WRONG,
        "request.lines",
        lambda record: len(record["request"]["headers"]) > 1,
        _message("request", "headers", lambda lines: lines[::-1]),
    ),
    Wrong(
        "body cut",
        WRONG,
        "response.body",
        _has_body,
        _body(lambda body: body[:-1]),
    ),
    Wrong(
        "a whole body said to be cut",
        WRONG,
        "response.body",
        _has_body,
        _message("response", "truncated", _always(True)),
    ),
    Wrong("body longer", WRONG, "response.body", _any, _body(lambda body: body + b"\r\n")),
    Wrong(
        "body altered",
        WRONG,
        "response.body",
        _has_body,
        _body(lambda body: b"!" + body[1:]),
    ),
    Wrong(
        "size",
        WRONG,
        "response.body_size",
        _any,
        _message("response", "body_size", lambda size: size + 1),
    ),
    Wrong(
        "another content coding",
        WRONG,
        "response.headers",
        _any,
        lambda record: [record | {"response": record["response"] | {"content_encoding": "rot13"}}],
    ),
    Wrong(
        "trailers",
        WRONG,
        "response.trailers",
        _has_trailers,
        _message("response", "trailers", lambda lines: [[lines[0][0], "43"], *lines[1:]]),
    ),
    Wrong(
        "trailers left out", WRONG, "response.trailers", _has_trailers, _message("response", "trailers", lambda _: [])
    ),
    Wrong(
        "another authority",
        WRONG,
        "request.headers",
        lambda record: record["version"] == "HTTP/2",
        _message("request", "headers", lambda lines: [[":authority", "elsewhere"], *lines]),
    ),
    Wrong("no fields", WRONG, "request.lines", _any, _message("request", "headers", lambda _: [])),
    Wrong(
        "trailers invented",
        WRONG,
        "response.trailers",
        _no_trailers,
        _message("response", "trailers", lambda _: [["X-Sum", "43"]]),
    ),
    *(
        Wrong(f"mTLS {told} where it was {right}", WRONG, "mtls", _has_mtls(right), _with("mtls", _always(told)))
        for right in (True, False, None)
        for told in (True, False)
        if told is not right
    ),
    Wrong(
        "invented between pods",
        INVENTED,
        "",
        _between_pods,
        lambda record: [record, record | {"target": "/livez", "method": "GET"}],
    ),
    Wrong("twice between pods", REPEATED, "", _between_pods, lambda record: [record, copy.deepcopy(record)]),
    Wrong("status of a call", WRONG, "grpc.status", _is_call, _call("status", 0)),
    Wrong("no status of a call", MISSING, "grpc.status", _is_call, _call("status", None)),
    Wrong("service of a call", WRONG, "grpc.service", _is_call, _call("service", "shop.Other")),
    Wrong("method of a call", WRONG, "grpc.method", _is_call, _call("method", "Get")),
    Wrong("message of a call", WRONG, "grpc.message", _is_call, _call("message", "no such shop")),
    Wrong("messages of a call", WRONG, "grpc.responses", _is_call, _one_message_less),
    Wrong(
        "a call that is none",
        WRONG,
        "grpc",
        lambda record: "grpc" not in record,
        lambda record: [record | {"grpc": {"status": 0}}],
    ),
]
