"""One JSON object a line (version 1 of the adapter contract of tapper-harness). ndjson.schema.json, beside this module,
describes every record."""

from __future__ import annotations

import json
from binascii import b2a_base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tapper.discovery.finders import Finding
from tapper.output.escape import escape, escape_bytes
from tapper.output.format import Format
from tapper.output.ndjson_streams import begin_members, part_members
from tapper.output.records import Owned, Place, TlsProcess, Totals, reason, verified
from tapper.protocols.exchange import Exchange
from tapper.protocols.facts import Fact, RefusedAttempt, StreamBegin, StreamPart, Tls, WebSocketMessage
from tapper.protocols.headers import content_encoding
from tapper.protocols.messages import Request, Response
from tapper.protocols.outcome import SERVER, ExchangeOutcome, OutcomeKind
from tapper.protocols.probes import is_probe
from tapper.protocols.records import ExchangeRecord, FactRecord
from tapper.protocols.websocket import TEXT
from tapper.streams.bounds import SECOND
from tapper.streams.connection import Leg

CONTRACT = 1
SCHEMA = 2
"""The version of ndjson.schema.json. It grows when a field goes or changes its meaning, not when one is added."""

_encode = json.JSONEncoder(separators=(",", ":")).encode


def _place(place: Place) -> dict[str, Any]:
    return {
        "kind": place.kind,
        "pid": place.pid,
        "instance_ip": place.instance_ip,
        "netns": place.netns,
        "interface": place.interface,
    }


def _identity(place: Place) -> dict[str, Any]:
    if place.verified is None:
        return {}
    return {"verified": place.verified, "found_by": place.found_by, **_pod(place, place.instance_ip)}


def _pod(place: Place, address: str | None) -> dict[str, Any]:
    """The name of the pod that has an address, where it is known."""
    name = place.name_of(address)
    return {} if name is None else {"pod": {"namespace": name.namespace, "name": name.name}}


@dataclass(frozen=True, slots=True)
class Seconds:
    """A member of a record whose JSON number has nine digits after the point. A float has too few for a time."""

    nanoseconds: int

    def __str__(self) -> str:
        sign = "-" if self.nanoseconds < 0 else ""
        seconds, fraction = divmod(abs(self.nanoseconds), SECOND)
        return f"{sign}{seconds}.{fraction:09}"


def _line(record: dict[str, Any]) -> str:
    """A record as a line of JSON. The record itself may have members of the class Seconds, its members may not."""
    pieces: list[str] = []
    others: dict[str, Any] = {}  # the members since the last one of the class Seconds
    for name, value in record.items():
        if isinstance(value, Seconds):
            pieces += [_encode(others)[1:-1], f'"{name}":{value}']
            others = {}
        else:
            others[name] = value
    pieces.append(_encode(others)[1:-1])
    return f"{{{','.join(filter(None, pieces))}}}\n"


def base64_text(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode("ascii")


def _leg(leg: Leg) -> dict[str, Any]:
    plaintext = {} if leg.plaintext is None else {"plaintext": leg.plaintext}
    return {
        "pod_ip": leg.pod_ip,
        "direction": leg.direction,
        "src": str(leg.src),
        "dst": str(leg.dst),
        "mtls": leg.mtls,
        **plaintext,
    } | ({} if leg.proxied_for is None else {"proxied_for": str(leg.proxied_for)})


def _message(message: Request | Response) -> dict[str, Any]:
    end, coding = message.end, content_encoding(message.head.headers)
    return {
        "headers": message.head.headers,
        **({} if coding is None else {"content_encoding": coding}),
        "body_b64": base64_text(end.body),
        "body_size": end.size,
        "truncated": end.truncated,
        "trailers": end.trailers,
    }


def _exchange(exchange: Exchange) -> dict[str, Any]:
    """The members that every exchange has. What was not captured is null."""
    request, response, duration = exchange.request, exchange.response, exchange.duration
    first = request or response
    return {
        "method": None if request is None else request.head.method or None,
        "target": None if request is None else request.head.target or None,
        "version": None if first is None else first.head.version,
        "status": None if response is None else response.head.status or None,
        "request": None if request is None else _message(request),
        "response": None if response is None else _message(response),
        "duration_s": None if duration is None else Seconds(duration),
        **outcome_members(exchange.outcome),
    }


def outcome_members(outcome: ExchangeOutcome, prefix: str = "") -> dict[str, Any]:
    """How an exchange ended, and what of it is malformed. Each name begins with the prefix."""
    members: dict[str, Any] = {f"{prefix}outcome": outcome.kind}
    if outcome.by is not None:
        members[f"{prefix}outcome_by"] = outcome.by
    if outcome.code is not None:
        members[f"{prefix}outcome_code"] = outcome.code
    if outcome.malformed:
        members[f"{prefix}malformed"] = [
            {"message": part.message, "reason": part.reason, "line": None if part.line is None else escape(part.line)}
            for part in outcome.malformed
        ]
    return members


def _optional(leg: Leg, exchange: Exchange) -> dict[str, Any]:
    """The members that few exchanges have."""
    members: dict[str, Any] = {}
    if is_probe(leg, exchange):
        members["probe"] = True
    if exchange.incomplete is not None:
        members["incomplete"] = exchange.incomplete
    if exchange.grpc is not None:
        members["grpc"] = asdict(exchange.grpc)
    if exchange.pushed:
        members["pushed"] = True
    if exchange.id:
        members["exchange_id"] = exchange.id
    return members


def _websocket(message: WebSocketMessage) -> dict[str, Any]:
    readable = message.opcode == TEXT and not message.deflated
    left_out = {"left_out": message.left_out} if message.left_out else {}
    return {
        "exchange_id": message.exchange_id,
        "from": message.sender,
        "opcode": message.opcode,
        "size": message.size,
        "text": message.body.decode("utf-8", "replace") if readable else None,
        "preview_b64": None if readable else base64_text(message.body),
        "truncated": message.truncated,
        "deflated": message.deflated,
        **left_out,
    }


def _fact(fact: Fact) -> tuple[str, dict[str, Any]]:
    """The type of a fact's record, and its fields besides time and place."""
    if isinstance(fact, Tls):
        return "tls", {"sni": fact.sni, "alpn": fact.alpn}
    if isinstance(fact, WebSocketMessage):
        return "websocket", _websocket(fact)
    if isinstance(fact, StreamBegin):
        return "begin", begin_members(fact)
    if isinstance(fact, StreamPart):
        return fact.kind, part_members(fact)
    if isinstance(fact, RefusedAttempt):
        return "connection", {"outcome": OutcomeKind.REFUSED, "outcome_by": SERVER, "left_out": fact.left_out}
    return "stream", {
        "what": fact.what,
        "client_bytes": fact.sizes[0],
        "server_bytes": fact.sizes[1],
        "lost_bytes": fact.lost,
        "client_preview": escape_bytes(fact.previews[0]),
        "server_preview": escape_bytes(fact.previews[1]),
        "client_known": fact.client_known,
    }


class Ndjson(Format):
    """The format for programs. ndjson.schema.json describes its records."""

    def hello(self, version: str, pid: int) -> str:
        return _line(
            {
                "type": "hello",
                "tapper": "tapper-harness reference",
                "version": version,
                "contract": CONTRACT,
                "schema": SCHEMA,
                "pid": pid,
            }
        )

    def source(self, state: str, place: Place) -> str:
        return _line({"type": "source", "state": state, **_place(place), **_identity(place)})

    def ack(self, generation: int) -> str:
        return _line({"type": "ack", "generation": generation})

    def exchange(self, place: Place, record: ExchangeRecord) -> str:
        leg, exchange = record.leg, record.exchange
        return _line(
            {
                "type": "http",
                "ts": Seconds(exchange.ts),
                **_leg(leg),
                **_exchange(exchange),
                "netns": place.netns,
                **_pod(place, leg.pod_ip),
                **_optional(leg, exchange),
            }
        )

    def fact(self, place: Place, record: FactRecord) -> str:
        kind, members = _fact(record.fact)
        leg = _leg(record.leg)
        if kind in ("tls", "connection"):  # whose TLS it is cannot be seen; a refused attempt has carried nothing
            del leg["mtls"]
        return _line({"type": kind, "ts": Seconds(record.fact.ts), **leg, **members, "netns": place.netns})

    def stat(self, place: Place | None, counts: Totals, *, so_far: bool = False) -> str:
        told = asdict(counts)
        del told["sources"]
        where = {} if place is None else _place(place) | _pod(place, place.instance_ip)
        return _line({"type": "stat", **told, **where} | ({"so_far": True} if so_far else {}))

    def bye(self, totals: Totals) -> str:
        return _line({"type": "bye", **asdict(totals)})

    def unreadable(self, process: TlsProcess) -> str:
        return _line({"type": "unreadable", **asdict(process)})

    def tls_processes(self, found: Sequence[TlsProcess]) -> str:
        return "".join(
            _line({"type": "readable" if process.reason is None else "unreadable", **asdict(process)})
            for process in found
        )

    def processes(self, found: Sequence[Finding], owned: Owned) -> str:
        return "".join(_line(_process(process, owned)) for process in found)


def _process(process: Finding, owned: Owned) -> dict[str, Any]:
    addresses = None if process.netns is None else owned.get(process.netns)
    return {
        "type": "process",
        "pid": process.pid,
        "exe": process.exe,
        "instance_ip": process.instance_ip,
        "owned": None if addresses is None else sorted(map(str, addresses)),
        "verified": verified(process, owned),
        "netns": None if process.netns is None else process.netns.inode,
        "found_by": process.found_by,
        "verdict": process.verdict,
        "reason": reason(process, owned),
    }
