"""The records that the reference would write of a plan, as far as wild mutants look at them. Nothing is played."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from harness.conformance.generated import writing
from harness.conformance.generated.plan import (
    BURST,
    CLIENT,
    ENVOY_RETURNS,
    GRPC,
    INBOUND,
    ITSELF,
    PERMILLE,
    POD_JOINS,
    Happening,
    Plan,
    Talk,
)
from harness.conformance.generated.play import service
from harness.conformance.generated.turns import Turn
from harness.conformance.oracle.decode import decode
from harness.conformance.oracle.model import OneWay, TcpConnection, TrueExchange, TrueMessage

Record = dict[str, Any]
_STEP_NS = 1_000_000
_SHOWN_OF_BODY = 48


@dataclass(slots=True)
class _Playing:
    """A connection while its turns pass: the time and offset of each, by side."""

    number: int
    talk: Talk
    turns: list[Turn]
    data: dict[bool, bytearray] = field(default_factory=lambda: {True: bytearray(), False: bytearray()})
    offsets: dict[bool, list[int]] = field(default_factory=lambda: {True: [], False: []})
    times: dict[bool, list[int]] = field(default_factory=lambda: {True: [], False: []})
    awake_ns: int = 0
    passed: int = 0

    def pass_turn(self, now_ns: int) -> None:
        turn = self.turns[self.passed]
        from_client = turn.side == CLIENT
        self.offsets[from_client].append(len(self.data[from_client]))
        self.times[from_client].append(now_ns)
        self.data[from_client] += turn.data
        self.passed += 1
        if self.passed == len(self.turns) // 2:
            self.awake_ns = now_ns + self.talk.quiet_ms * 1_000_000

    def way(self, *, from_client: bool) -> OneWay:
        return OneWay(bytes(self.data[from_client]), tuple(self.offsets[from_client]), tuple(self.times[from_client]))


def records(plan: Plan) -> list[Record]:
    """In the order in which the exchanges end. A plan with disorder has a record of type `stream` for each hole."""
    playing = [_Playing(n, talk, list(writing.script(plan, n).turns)) for n, talk in enumerate(plan.talks)]
    waiting = sorted(plan.happenings, key=lambda each: each.at)
    joins = {each.pod for each in plan.happenings if each.what == POD_JOINS}
    told: list[tuple[int, Record]] = [(0, _source(pod, "open")) for pod in range(plan.pods) if pod not in joins]
    told.append((0, {"type": "ack", "generation": 1}))
    total, done, now_ns = sum(len(each.turns) for each in playing), 0, _STEP_NS
    going = list(playing)
    while going:
        awake = [each for each in going if each.awake_ns <= now_ns] or [min(going, key=lambda each: each.awake_ns)]
        for each in awake:
            now_ns = max(now_ns + _STEP_NS // 10, each.awake_ns)
            while waiting and done * PERMILLE >= waiting[0].at * total:
                told += [(now_ns, record) for record in _happened(waiting.pop(0))]
            if each.passed == len(each.turns):
                going.remove(each)
            else:
                each.pass_turn(now_ns)
                done += 1
    for each in playing:
        told += _of_talk(each)
    return [record for _, record in sorted(told, key=lambda pair: pair[0])]


def _happened(happening: Happening) -> list[Record]:
    if happening.what == ENVOY_RETURNS:
        return [_source(happening.pod, "closed"), _source(happening.pod, "open")]
    if happening.what == POD_JOINS:
        return [_source(happening.pod, "open"), {"type": "ack", "generation": 2}]
    if happening.what == BURST:
        return [{"type": "ack", "generation": 2}]
    return [_source(happening.pod, "closed"), {"type": "ack", "generation": 2}]


def _source(pod: int, state: str) -> Record:
    return {"type": "source", "kind": "pod", "state": state, "netns": pod}


def _of_talk(each: _Playing) -> Iterator[tuple[int, Record]]:
    talk = each.talk
    if talk.segments.lost:
        yield each.times[True][0] if each.times[True] else 0, {"type": "stream"}
        return
    ways = [way for way in ("outbound", "inbound") if talk.direction in (way, ITSELF)]
    for way in ways:
        connection = _connection(each, way)
        ends = {
            "pod_ip": f"10.244.0.{2 + talk.pod}",
            "netns": talk.pod,
            "direction": way,
            "src": _end(connection.client),
            "dst": _end(connection.replies_from),
            "mtls": None,
        }
        decoded = decode(connection)
        for exchange in decoded.exchanges:
            yield exchange.last_ns, ends | _http(exchange, grpc=talk.protocol == GRPC)
        for message in decoded.socket_messages:
            source, text = "client" if message.from_client else "server", message.payload.decode("latin-1")
            yield message.last_ns, ends | {"type": "websocket", "from": source, "text": text}


def _connection(each: _Playing, way: str) -> TcpConnection:
    talk = each.talk
    own = "fd00::2" if talk.ipv6 else "10.244.0.2"
    if way == INBOUND:
        source, server = ("::6" if talk.ipv6 else "127.0.0.6"), (own, 8080 + each.number)
        if talk.localhost and talk.direction == INBOUND:
            source = "::1" if talk.ipv6 else "127.0.0.1"
    else:
        source, server = own, service(talk, each.number)
    requests, responses = each.way(from_client=True), each.way(from_client=False)
    last = max((*requests.times, *responses.times), default=0)
    return TcpConnection((source, 40_000 + each.number), server, server, requests, responses, 0, last)


def _http(exchange: TrueExchange, *, grpc: bool) -> Record:
    record: Record = {
        "type": "http",
        "ts": exchange.first_ns / 1e9,
        "duration_s": None
        if exchange.response_last_ns is None
        else (exchange.response_last_ns - exchange.first_ns) / 1e9,
        "version": exchange.protocol,
        "method": exchange.method,
        "target": exchange.target,
        "status": exchange.status,
        "request": _message(exchange.request),
        "response": _message(exchange.response),
    }
    return record | ({"grpc": {"status": exchange.call and exchange.call.status}} if grpc else {})


def _message(message: TrueMessage | None) -> Record | None:
    if message is None:
        return None
    return {
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in message.fields],
        "body_b64": base64.b64encode(message.body[:_SHOWN_OF_BODY]).decode(),
        "body_size": len(message.body),
        "truncated": False,
        "trailers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in message.trailers],
    }


def _end(address: tuple[str, int]) -> str:
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
