"""What a wild mutant does wrong, where its condition holds: rules that change, add or leave out records. Pure."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from harness.conformance.mutants.streams import Record, both_messages, connection

Flagged: TypeAlias = tuple[Record, bool]
"""A record, and whether the fault is in it."""

_HOUR_S = 3600.0
_NOBODY = "10.244.99.99"
_OTHER_DIRECTION = {"inbound": "outbound", "outbound": "inbound"}
_ANSWER = ("status", "response")


@dataclass(frozen=True, slots=True)
class Rule:
    """One way to be wrong. `change` yields what is written in place of what comes in."""

    words: str
    change: Callable[[Iterable[Flagged]], Iterator[Record]]
    kind: str = "http"
    """The type of the records that it changes."""


def _each(change: Callable[[Record], Iterable[Record]], kind: str = "http") -> Callable[..., Iterator[Record]]:
    """Replaces each record that the fault is in by what `change` makes of it."""

    def changed(records: Iterable[Flagged]) -> Iterator[Record]:
        for record, wrong in records:
            yield from change(record) if wrong and record["type"] == kind else (record,)

    return changed


def _with(change: Callable[[Record], Record]) -> Callable[..., Iterator[Record]]:
    return _each(lambda record: (record | change(record),))


def _message(which: str, change: Callable[[Record], Record]) -> Callable[..., Iterator[Record]]:
    """Changes the request or the response, where there is one."""
    return _with(lambda record: {which: record[which] and record[which] | change(record[which])})


def _answers(records: Iterable[Flagged], *, other: Callable[[list[Record]], Record]) -> Iterator[Record]:
    """Shows answers with other requests of the same kind: `other` chooses among the answers so far, its own last."""
    answers: list[Record] = []
    for record, wrong in records:
        if wrong and record["type"] == "http" and record["response"] is not None:
            answers.append({name: record[name] for name in _ANSWER})
            yield record | other(answers)
            del answers[:-2]
        else:
            yield record


def _answer_before(records: Iterable[Flagged]) -> Iterator[Record]:
    return _answers(records, other=lambda answers: answers[-2:][0])


def _swap(records: Iterable[Flagged]) -> Iterator[Record]:
    """Two exchanges that follow each other have each other's answers; the first of the two waits for the second."""
    waiting: Record | None = None
    for record, wrong in records:
        if not wrong or record["type"] != "http" or record["response"] is None:
            yield record
        elif waiting is None:
            waiting = record
        else:
            yield waiting | {name: record[name] for name in _ANSWER}
            yield record | {name: waiting[name] for name in _ANSWER}
            waiting = None
    if waiting is not None:
        yield waiting


def _again_later(records: Iterable[Flagged]) -> Iterator[Record]:
    late: list[Record] = []
    for record, wrong in records:
        yield record
        if wrong and record["type"] == "http":
            yield from late
            late = [record]
    yield from late


def _lose_rest(records: Iterable[Flagged]) -> Iterator[Record]:
    lost: set[tuple[object, ...]] = set()
    for record, wrong in records:
        if record["type"] != "http":
            yield record
        elif connection(record) not in lost:
            yield record
            if wrong:
                lost.add(connection(record))


def _other_pod(records: Iterable[Flagged]) -> Iterator[Record]:
    """That of another pod that was told of, or of nobody."""
    pods: dict[str, None] = {}
    for record, wrong in records:
        if record["type"] == "http" and record["pod_ip"]:
            pods[record["pod_ip"]] = None
            if wrong:
                others = [pod for pod in pods if pod != record["pod_ip"]]
                yield record | {"pod_ip": (others or [_NOBODY])[-1]}
                continue
        yield record


def _half(message: Record) -> Record:
    body = base64.b64decode(message["body_b64"])
    if not body:
        return {}  # there is nothing to halve, and a tapper that says so is right
    return {"body_b64": base64.b64encode(body[: len(body) // 2]).decode(), "truncated": False}


def _spoilt(message: Record) -> Record:
    body = bytearray(base64.b64decode(message["body_b64"]))
    if body:
        body[-1] ^= 1
    return {"body_b64": base64.b64encode(body).decode()}


def _joined(message: Record) -> Record:
    fields: dict[str, tuple[str, list[str]]] = {}
    for name, value in message["headers"]:
        fields.setdefault(name.lower(), (name, []))[1].append(value)
    return {"headers": [[name, ", ".join(values)] for name, values in fields.values()]}


def _last_of_each(message: Record) -> Record:
    return {"headers": list({name.lower(): [name, value] for name, value in message["headers"]}.values())}


def _other_version(record: Record) -> Record:
    return {"version": "HTTP/1.1" if record["version"] == "HTTP/2" else "HTTP/2"}


def _next_port(end: str) -> str:
    host, _, port = end.rpartition(":")
    return f"{host}:{int(port) % 65_535 + 1}"


def _headers_swapped(record: Record) -> Record:
    asked, answered = record["request"], record["response"]
    if asked is None or answered is None:
        return {}
    return {
        "request": asked | {"headers": answered["headers"]},
        "response": answered | {"headers": asked["headers"]},
    }


def _healthz(record: Record) -> Iterable[Record]:
    """A probe that nobody has sent, on the same connection."""
    nothing = {"headers": [], "body_b64": "", "body_size": 0, "truncated": False, "trailers": []}
    probe = {"method": "GET", "target": "/healthz", "status": 200, "request": nothing, "response": nothing}
    return record, record | probe


def _orphan(record: Record) -> Iterable[Record]:
    """The answer once more, as if nobody had asked."""
    return record, record | {"method": None, "target": None, "request": None}


def _halves(record: Record) -> Iterable[Record]:
    if record["request"] is None or record["response"] is None:
        return (record,)
    nobody = {"method": None, "target": None, "request": None}
    return record | {"status": None, "response": None, "duration_s": None}, record | nobody


def _grpc_ok(record: Record) -> Record:
    return {"grpc": record["grpc"] | {"status": 0 if record["grpc"]["status"] else 13}} if record.get("grpc") else {}


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        # how often
        "drop": Rule("leaves an exchange out", _each(lambda _record: ())),
        "lose-rest": Rule("tells nothing more of a connection after an exchange", _lose_rest),
        "repeat": Rule("writes an exchange twice", _each(lambda record: (record, record))),
        "again-later": Rule("writes an exchange again when the next one is over", _again_later),
        "halves": Rule("tells a request and its answer as two exchanges", _each(_halves)),
        "healthz": Rule("invents GET /healthz after an exchange", _each(_healthz)),
        "orphan": Rule("shows an answer again, with no request", _each(_orphan)),
        # who belongs to whom
        "no-answer": Rule(
            "shows a request without its answer", _with(lambda _record: {"status": None, "response": None})
        ),
        "former-answer": Rule("shows a request with the answer of the one before", _answer_before),
        "swap": Rule("exchanges the answers of two requests", _swap),
        # where and when
        "direction": Rule(
            "turns the direction round",
            _with(lambda record: {"direction": _OTHER_DIRECTION.get(record["direction"], "inbound")}),
        ),
        "pod": Rule("names another pod", _other_pod),
        "ends": Rule("exchanges source and destination", _with(lambda r: {"src": r["dst"], "dst": r["src"]})),
        "port": Rule("has the client's port wrong by one", _with(lambda record: {"src": _next_port(record["src"])})),
        "netns": Rule("names another network namespace", _with(lambda r: {"netns": (r["netns"] or 0) + 1})),
        "hour": Rule("is an hour late", _with(lambda record: {"ts": record["ts"] + _HOUR_S})),
        "early": Rule("is three seconds early", _with(lambda record: {"ts": record["ts"] - 3.0})),
        "longer": Rule(
            "makes an exchange ten seconds longer", _with(lambda r: {"duration_s": (r["duration_s"] or 0.0) + 10.0})
        ),
        "mtls": Rule("turns the word on mTLS round", _with(lambda record: {"mtls": not record["mtls"]})),
        # what was said
        "method": Rule(
            "tells another method", _with(lambda record: {"method": "PUT" if record["method"] == "GET" else "GET"})
        ),
        "target": Rule("cuts the target's end", _with(lambda record: {"target": (record["target"] or "/")[:-1]})),
        "status": Rule("has the status wrong by one", _with(lambda record: {"status": (record["status"] or 199) + 1})),
        "version": Rule("tells another version of HTTP", _with(_other_version)),
        "request-field": Rule(
            "leaves out the request's last header field", _message("request", lambda m: {"headers": m["headers"][:-1]})
        ),
        "answer-field": Rule(
            "leaves out the answer's last header field", _message("response", lambda m: {"headers": m["headers"][:-1]})
        ),
        "field-order": Rule(
            "turns the order of header fields round",
            _with(lambda r: both_messages(r, lambda m: m | {"headers": m["headers"][::-1]})),
        ),
        "joined-fields": Rule(
            "joins fields of one name", _with(lambda record: both_messages(record, lambda m: m | _joined(m)))
        ),
        "last-fields": Rule(
            "keeps the last field of a name",
            _with(lambda record: both_messages(record, lambda m: m | _last_of_each(m))),
        ),
        "fields-swapped": Rule("exchanges the header fields of request and answer", _with(_headers_swapped)),
        "trailers": Rule(
            "leaves out trailers", _with(lambda record: both_messages(record, lambda m: m | {"trailers": []}))
        ),
        "request-body": Rule("halves the request's body in silence", _message("request", _half)),
        "answer-body": Rule("halves the answer's body in silence", _message("response", _half)),
        "spoilt-body": Rule("has the last byte of the answer's body wrong", _message("response", _spoilt)),
        "body-size": Rule(
            "has the size of the answer's body wrong by one",
            _message("response", lambda message: {"body_size": message["body_size"] + 1}),
        ),
        "grpc-status": Rule("tells another status of a gRPC call", _with(_grpc_ok)),
        "message-lost": Rule("leaves out a WebSocket message", _each(lambda _record: (), "websocket"), "websocket"),
        "message-side": Rule(
            "takes a WebSocket message for the other side's",
            _each(lambda r: (r | {"from": "server" if r["from"] == "client" else "client"},), "websocket"),
            "websocket",
        ),
    }
)
"""By name."""
