"""One JSON object a line (version 1 of the adapter contract of tapper-harness). ndjson.schema.json, beside this module,
describes every record."""

from __future__ import annotations

import json
from binascii import b2a_base64
from collections.abc import Callable, Sequence
from dataclasses import asdict
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, Final

from tapper.discovery.envoy import Envoy, Verdict
from tapper.output.escape import escape_bytes
from tapper.output.records import Listed, Owned, Place, Totals, found_by, reason, verified
from tapper.protocols.exchange import Exchange
from tapper.protocols.facts import Fact, Note, Tls, WebSocketMessage
from tapper.protocols.fieldlist import FieldList, Headers, Template, is_plain
from tapper.protocols.grpc import Call, Messages
from tapper.protocols.messages import End
from tapper.protocols.probes import is_probe
from tapper.protocols.session import Sighting
from tapper.protocols.websocket import TEXT
from tapper.runtime.memo import Memo
from tapper.streams.bounds import SECOND
from tapper.streams.connection import Leg

CONTRACT = 1
SCHEMA = 2
"""The version of ndjson.schema.json. It grows when a field goes or changes its meaning, not when one is added."""

_BOOLEAN: Final = ("false", "true")
_MTLS: Final = {True: "true", False: "false", None: "null"}
_LONGEST: Final = 4096  # characters that are remembered of the fields of a message
_encode = json.JSONEncoder(separators=(",", ":")).encode


def _line(record: dict[str, Any]) -> str:
    return _encode(record) + "\n"


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
    name = place.pods.get(address or "") or (place.name if address == place.instance_ip else None)
    return {} if name is None else {"pod": {"namespace": name.namespace, "name": name.name}}


# Exchanges are most of what is written, and a general encoder costs more than all else that is done with one. So their
# records are put together here from pieces that are JSON already; everything rarer goes through `_line`.


def _text(text: str | None) -> str:
    return "null" if text is None else _quoted(text)


def _base64_slowly(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode("ascii")


def _encoder() -> Callable[[bytes], str]:
    """Python's own encoder costs as much as all else that is done with a body, so another is taken where it is there
    (`tapper-harness[fast]`)."""
    try:
        from pybase64 import b64encode_as_string  # noqa: PLC0415
    except ImportError:
        return _base64_slowly
    return b64encode_as_string


_base64: Final = _encoder()


def _seconds(nanoseconds: int) -> str:
    """To the last digit, which a float has not."""
    if 0 <= nanoseconds < SECOND:  # as most durations are: a number less to spell
        return f"0.{_fraction(nanoseconds)}"
    if nanoseconds < 0:
        return "-" + _seconds(-nanoseconds)
    return f"{nanoseconds // SECOND}.{_fraction(nanoseconds)}"


def _fraction(nanoseconds: int) -> str:
    """Of a second, nine digits."""
    return str(SECOND + nanoseconds % SECOND)[1:]


def _field(field: tuple[str, str]) -> str:
    return f"[{_quoted(field[0])},{_quoted(field[1])}]"


def _leg(leg: Leg) -> str:
    """What is said of a leg, and what follows it. Kept with the leg."""
    leg.json = (
        f',"pod_ip":{_text(leg.pod_ip)},"direction":{_quoted(leg.direction)}'
        f',"src":{_quoted(leg.src)},"dst":{_quoted(leg.dst)},"mtls":{_MTLS[leg.mtls]},"method":'
    )
    return leg.json


def _method(method: str) -> str:
    """What is said of a method, and what follows it."""
    return f'{_quoted(method)},"target":'


def _outcome(version: str | None, status: int) -> str:
    return f',"version":{_text(version)},"status":{status or "null"},"request":'


_UNKNOWN_METHOD: Final = 'null,"target":'
_BEFORE_HEADERS: Final = '{"headers":['
_BEFORE_BODY: Final = '],"body_b64":"'
_IN_FULL: Final = ',"truncated":false,"trailers":[]}'
_WITHOUT_BODY: Final = f'","body_size":0{_IN_FULL}'


def _grpc(call: Call) -> str:
    return (
        f'{{"service":{_text(call.service)},"method":{_text(call.method)}'
        f',"status":{"null" if call.status is None else call.status},"message":{_text(call.message)}'
        f',"requests":{_messages(call.requests)},"responses":{_messages(call.responses)}}}'
    )


def _messages(messages: Messages) -> str:
    sizes = ",".join(map(str, messages.sizes))
    return f'{{"count":{messages.count},"sizes":[{sizes}],"exact":{_BOOLEAN[messages.exact]}}}'


def _websocket(message: WebSocketMessage) -> dict[str, Any]:
    readable = message.opcode == TEXT and not message.deflated
    return {
        "from": message.sender,
        "opcode": message.opcode,
        "size": message.size,
        "text": message.body.decode("utf-8", "replace") if readable else None,
        "preview_b64": None if readable else _base64(message.body),
        "truncated": message.truncated,
        "deflated": message.deflated,
    }


def _fact(fact: Fact) -> tuple[str, dict[str, Any]]:
    """The type of a fact's record, and its fields besides time and place."""
    if isinstance(fact, Tls):
        return "tls", {"sni": fact.sni, "alpn": fact.alpn}
    if isinstance(fact, WebSocketMessage):
        return "websocket", _websocket(fact)
    return "stream", {
        "what": fact.what,
        "client_bytes": fact.sizes[0],
        "server_bytes": fact.sizes[1],
        "lost_bytes": fact.lost,
        "client_preview": escape_bytes(fact.previews[0]),
        "server_preview": escape_bytes(fact.previews[1]),
        "client_known": fact.client_known,
    }


class Ndjson:
    """A `tapper.output.records.Format`."""

    def __init__(self) -> None:
        self._known: Memo[tuple[str, str], str] = Memo(_field, lambda field: len(field[0]) + len(field[1]))
        self._methods: Memo[str, str] = Memo(_method, len)
        # What was said last, each with what it was said of: of many exchanges in a row it is the same.
        self._second = -1
        self._begins = ""
        self._version: str | None = None
        self._status = -1
        self._outcome = ""
        self._place: Place | None = None
        self._named = False
        self._ends = ""

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

    def sighting(self, place: Place, sighting: Sighting) -> str:
        leg, exchange = sighting.leg, sighting.exchange
        request, response = exchange.request, exchange.response
        method, target, quote, duration = _UNKNOWN_METHOD, "null", "", "null"
        asked = answered = "null"  # as far as a body
        said = replied = ""
        version: str | None = None
        ts = status = 0
        if response is not None:
            ts, version, status = response.head.ts, response.head.version, response.head.status
            answered, replied = self._told(response.head.fields), self._body(response.end)
            if request is not None:
                duration = _seconds(response.end.ts - request.head.ts)
        if request is not None:
            head = request.head
            ts, version = head.ts, head.version
            asked, said = self._told(head.fields), self._body(request.end)
            if head.method:
                method = self._methods[head.method]
            if head.target:
                target, quote = head.target if head.plain else _quoted(head.target)[1:-1], '"'
        if ts // SECOND != self._second:
            self._second = ts // SECOND
            self._begins = f'{{"type":"http","ts":{self._second}.'
        if status != self._status or version != self._version:
            self._status, self._version, self._outcome = status, version, _outcome(version, status)
        if place is not self._place:
            self._place, self._named = place, bool(place.pods or place.name)
            self._ends = f',"netns":{"null" if place.netns is None else place.netns}'
        return (
            f"{self._begins}{_fraction(ts)}{leg.json or _leg(leg)}{method}{quote}{target}{quote}{self._outcome}"
            f'{asked}{said},"response":{answered}{replied},"duration_s":{duration}{self._ends}'
            f"{self._further(place, leg, exchange)}}}\n"
        )

    def _further(self, place: Place, leg: Leg, exchange: Exchange) -> str:
        """What is said of few exchanges."""
        further = ""
        if self._named:
            pod = _pod(place, leg.pod_ip)
            if pod:
                further = f",{_encode(pod)[1:-1]}"
        if is_probe(leg, exchange):
            further += ',"probe":true'
        if exchange.incomplete is not None:
            further += f',"incomplete":{_quoted(exchange.incomplete)}'
        if exchange.grpc is not None:
            further += f',"grpc":{_grpc(exchange.grpc)}'
        return further

    def _told(self, fields: FieldList) -> str:
        """A message up to its body."""
        pieces = fields.template.json
        if pieces is None:
            pieces = self._pieces(fields.template)
        told = pieces[0]
        for number, value in enumerate(fields.values):
            text = value.decode("latin-1")
            further = pieces[number + 1]
            told = f'{told}"{text}"{further}' if is_plain(value) else told + _quoted(text) + further
        return told

    def _body(self, end: End) -> str:
        """The rest of it."""
        if not end.size and not end.truncated and not end.trailers:
            return _WITHOUT_BODY
        body = _base64(end.body) if end.body else ""
        if end.truncated or end.trailers:
            trailers = self._listed(end.trailers)
            return f'{body}","body_size":{end.size},"truncated":{_BOOLEAN[end.truncated]},"trailers":[{trailers}]}}'
        return f'{body}","body_size":{end.size}{_IN_FULL}'

    def _pieces(self, template: Template) -> list[str]:
        """A message up to its body, without the values that vary. Kept with the template, unless it is long."""
        pieces: list[str] = []
        told = _BEFORE_HEADERS
        for at, field in enumerate(template.headers):
            told += "," if at else ""
            if at in template.varying:
                pieces.append(f"{told}[{_quoted(field[0])},")
                told = "]"
            else:
                told += self._known[field]
        pieces.append(told + _BEFORE_BODY)
        if sum(map(len, pieces)) <= _LONGEST:
            template.json = pieces
        return pieces

    def _listed(self, fields: Headers) -> str:
        known = self._known
        return ",".join([known[field] for field in fields])

    def note(self, place: Place, note: Note) -> str:
        leg = note.leg
        where: dict[str, Any] = {"pod_ip": leg.pod_ip, "direction": leg.direction, "src": leg.src, "dst": leg.dst}
        kind, what = _fact(note.fact)
        if kind != "tls":  # TLS of the application and TLS of the mesh cannot be told apart
            where["mtls"] = leg.mtls
        return _line({"type": kind, "ts": note.fact.ts / 1e9, **where, **what, "netns": place.netns})

    def stat(self, place: Place | None, counts: Totals, *, so_far: bool = False) -> str:
        told = asdict(counts)
        del told["sources"]
        where = {} if place is None else _place(place) | _pod(place, place.instance_ip)
        return _line({"type": "stat", **told, **where} | ({"so_far": True} if so_far else {}))

    def ending(self) -> str:
        return ""

    def bye(self, totals: Totals) -> str:
        return _line({"type": "bye", **asdict(totals)})

    def processes(self, found: Sequence[Listed], owned: Owned) -> str:
        return "".join(_line(_process(process, owned)) for process in found)


def _process(process: Listed, owned: Owned) -> dict[str, Any]:
    addresses = None if process.netns is None else owned.get(process.netns)
    return {
        "type": "process",
        "pid": process.pid,
        "exe": process.exe,
        "instance_ip": None if process.instance_ip is None else str(process.instance_ip),
        "owned": None if addresses is None else sorted(map(str, addresses)),
        "verified": verified(process, owned),
        "netns": None if process.netns is None else process.netns.inode,
        "found_by": found_by(process),
        "verdict": Verdict.ENVOY if isinstance(process, Envoy) else process.verdict,
        "reason": reason(process, owned),
    }
