"""HTTP Archive 1.2 (specification by Jan Odvarko), which the developer tools of browsers open.

Each entry is written at once, on a line of its own; that of a WebSocket waits for its messages. An archive whose writer
was killed lacks only its last line: append `]}}` to complete it. Fields that begin with an underscore are additions, as
the specification allows; `_webSocketMessages`, `_resourceType` and `_connectionId` are Chrome's.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl

from tapper.output.content import MessageContent, content
from tapper.output.filters import host_of
from tapper.output.format import Format
from tapper.output.ndjson import outcome_members
from tapper.output.records import Place, Totals
from tapper.protocols.exchange import Exchange
from tapper.protocols.facts import WebSocketMessage
from tapper.protocols.messages import Request, RequestHead, Response
from tapper.protocols.records import ExchangeRecord, FactRecord
from tapper.protocols.websocket import TEXT
from tapper.streams.connection import Leg

_encode = json.JSONEncoder(separators=(",", ":")).encode
_UNKNOWN = -1  # the specification's value for an unknown size
_UNKNOWN_TYPE = "x-unknown"  # as browsers write it


MOST_HELD: Final = 32 << 20
"""Bytes of the entries of open WebSockets, with their messages. Over it the largest entry is written."""
_COST: Final = 100
"""Bytes that Python's objects take for a message besides its text; for an entry, ten times as many."""
_NO_MORE: Final = 0  # the opcode of a record that says that nothing more of a sender can be read
_CLOSE: Final = 8
_Key: TypeAlias = tuple[Any, ...]


@dataclass(slots=True)
class _WebSocketEntry:
    """The entry of a WebSocket that is open."""

    entry: str
    """Its JSON, without the last brace; empty for several WebSockets on one connection, whose entries are written."""
    held: int
    """Bytes, with the messages."""
    messages: list[str] = field(default_factory=list)
    closed_by: set[str] = field(default_factory=set)
    """The senders that have sent a close frame."""
    remark: str = ""


class Har(Format):
    """It counts the entries, and what it leaves out: responses without requests, and messages without an entry."""

    def __init__(self) -> None:
        self._entries = 0
        self._without_request = 0
        self._messages_left_out = 0
        self._websockets: dict[_Key, _WebSocketEntry] = {}  # by connection
        self._held = 0

    def hello(self, version: str, _pid: int) -> str:
        creator = _encode({"name": "tapper-harness reference", "version": version})
        return f'{{"log":{{"version":"1.2","creator":{creator},"pages":[],"entries":['

    def exchange(self, place: Place, record: ExchangeRecord) -> str:
        """An entry; nothing yet for a WebSocket. A response without its request is left out: the archive requires the
        request's method and URL."""
        exchange, leg = record.exchange, record.leg
        if exchange.request is None:
            self._without_request += 1
            return ""
        websocket = _opens_websocket(exchange)
        entry = {
            "startedDateTime": _moment(exchange.ts),
            **_timing(exchange.request, exchange.response),
            "request": _request(exchange.request, str(leg.dst), "ws" if websocket else "http"),
            "response": _response(exchange.response),
            "cache": {},
            "serverIPAddress": leg.dst.host,
            "connection": str(leg.dst.port),
            "_connectionId": f"{leg.src} {leg.dst}",
            "_pod_ip": leg.pod_ip,
            "_direction": leg.direction,
            "_mtls": leg.mtls,
            **({} if leg.plaintext is None else {"_plaintext": leg.plaintext}),
            "_netns": place.netns,
            **outcome_members(exchange.outcome, "_"),
        }
        if leg.proxied_for is not None:
            entry["_proxied_for"] = str(leg.proxied_for)
        text = _encode(entry)
        if not websocket:
            return self._written(text)
        key = _connection(place, leg)
        shared = key in self._websockets and exchange.request.head.version == "HTTP/2"
        before = self._concluded(key)
        if shared:  # messages do not tell which stream they belong to
            before += self._written(text)
            text = ""
        self._websockets[key] = _WebSocketEntry(text[:-1], 0)
        return before + self._hold(key, len(text) + 10 * _COST)

    def fact(self, place: Place, record: FactRecord) -> str:
        """A message joins the entry of its WebSocket, which is written once both sides have closed it."""
        message = record.fact
        if not isinstance(message, WebSocketMessage):
            return ""
        key = _connection(place, record.leg)
        waiting = self._websockets.get(key)
        if waiting is None or not waiting.entry:
            self._messages_left_out += 1
            return ""
        if message.opcode == _NO_MORE:
            waiting.remark = f"the {message.sender}'s further messages could not be read"
            return ""
        text = _encode(_message_of(message))
        waiting.messages.append(text)
        if message.opcode == _CLOSE:
            waiting.closed_by.add(message.sender)
            if len(waiting.closed_by) == 2:
                return self._concluded(key)
        return self._hold(key, len(text) + _COST)

    def _hold(self, key: _Key, more: int) -> str:
        """An entry has grown. Returns the largest entry if all entries hold too much."""
        self._websockets[key].held += more
        self._held += more
        if self._held <= MOST_HELD:
            return ""
        largest = max(self._websockets, key=lambda one: self._websockets[one].held)
        self._websockets[largest].remark = "further messages are left out"
        return self._concluded(largest)

    def _concluded(self, key: _Key) -> str:
        """The entry of a WebSocket with the messages so far; empty if none waits there."""
        waiting = self._websockets.pop(key, None)
        if waiting is None:
            return ""
        self._held -= waiting.held
        if not waiting.entry:
            return ""
        remark = f',"comment":{_encode(waiting.remark)}' if waiting.remark else ""
        messages = ",".join(waiting.messages)
        return self._written(f'{waiting.entry},"_resourceType":"websocket","_webSocketMessages":[{messages}]{remark}}}')

    def _written(self, entry: str) -> str:
        separator = ",\n" if self._entries else "\n"
        self._entries += 1
        return separator + entry

    def ending(self) -> str:
        return "\n]}}\n"

    def bye(self, _totals: Totals) -> str:
        text = "".join([self._concluded(key) for key in list(self._websockets)])
        left_out = [
            (self._without_request, "responses without their requests"),
            (self._messages_left_out, "messages of WebSockets without an entry that waits"),
        ]
        told = "; ".join(f"{count} {what} are left out" for count, what in left_out if count)
        comment = f',"comment":{_encode(told)}' if told else ""
        return f"{text}\n]{comment}}}}}\n"


def _connection(place: Place, leg: Leg) -> _Key:
    return place.identity, leg.src, leg.dst


def _opens_websocket(exchange: Exchange) -> bool:
    """Whether WebSocket messages follow (RFC 6455 section 4.2.2, RFC 8441 section 5)."""
    request, response = exchange.request, exchange.response
    if request is None or response is None:
        return False
    if response.head.status == 101:
        return (request.head.fields.get("upgrade") or "").lower() == "websocket"
    protocol = request.head.fields.get(":protocol") or ""
    return protocol.lower() == "websocket" and 200 <= response.head.status < 300


def _message_of(message: WebSocketMessage) -> dict[str, Any]:
    """A message as Chrome has it: the data of a text message is text, that of any other message is base64."""
    readable = message.opcode == TEXT and not message.deflated
    text = message.body.decode("utf-8", "replace") if readable else base64.b64encode(message.body).decode("ascii")
    members = {
        "type": "send" if message.sender == "client" else "receive",
        "time": message.ts / 1e9,
        "opcode": message.opcode,
        "data": text,
    }
    if message.truncated:
        members["_size"] = message.size
    if message.deflated:
        members["_deflated"] = True
    return members


def _moment(ts: int) -> str:
    """Nanoseconds since 1970 as ISO 8601, to the microsecond."""
    seconds, nanoseconds = divmod(ts, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _timing(request: Request, response: Response | None) -> dict[str, Any]:
    """The members about time, in milliseconds. `time` is the sum of the three timings, none of which is negative: a
    server may answer before the request is complete. -1 stands for times that packets do not tell."""
    send = max(0, request.end.ts - request.head.ts)
    wait = receive = 0
    if response is not None:
        wait = max(0, response.head.ts - request.end.ts)
        receive = max(0, response.end.ts - max(response.head.ts, request.end.ts))
    parts = {
        "blocked": -1,
        "dns": -1,
        "connect": -1,
        "ssl": -1,
        "send": send / 1e6,
        "wait": wait / 1e6,
        "receive": receive / 1e6,
    }
    return {"time": (send + wait + receive) / 1e6, "timings": parts}


def _request(request: Request, server: str, scheme: str) -> dict[str, Any]:
    head = request.head
    target = _readable(head.target)
    members = {
        "method": head.method,
        "url": _url(head, target, host_of(request) or server, scheme),
        "queryString": _pairs(parse_qsl(target.partition("?")[2], keep_blank_values=True)),
        **_message(request),
        "cookies": [cookie for value in head.fields.all("cookie") for cookie in _cookies(value)],
    }
    if request.end.size:
        members["postData"] = {"params": [], **_body(request, content(request), "_encoding")}
    return members


def _url(head: RequestHead, target: str, host: str, scheme: str) -> str:
    """An absolute URL, whatever form the target has (RFC 9112 section 3.2)."""
    if head.method == "CONNECT" and "/" not in target:
        return f"{scheme}://{target or host}/"
    if not target.startswith("/") and "://" in target:
        return target
    return f"{scheme}://{host}/{target.removeprefix('/')}"


def _readable(target: str) -> str:
    """A target whose bytes are latin-1 characters, as UTF-8 if it is UTF-8. If not, its bytes outside ASCII are
    percent-encoded, so that the URL keeps them."""
    if target.isascii():
        return target
    try:
        return target.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return "".join(char if char.isascii() else f"%{ord(char):02X}" for char in target)


def _cookies(value: str) -> Iterable[dict[str, Any]]:
    """The cookies of a Cookie field (RFC 6265 section 4.2)."""
    for pair in value.split(";"):
        name, equals, text = pair.strip().partition("=")
        if equals:
            yield {"name": name, "value": text}


def _set_cookie(value: str) -> dict[str, Any] | None:
    """The cookie of a Set-Cookie field (RFC 6265 section 4.1). None if it has none, for instance where it is
    redacted."""
    pair, *attributes = value.split(";")
    name, equals, text = pair.strip().partition("=")
    if not equals:
        return None
    cookie: dict[str, Any] = {"name": name, "value": text}
    for attribute in attributes:
        key, _, setting = attribute.strip().partition("=")
        lower = key.lower()
        if lower in ("path", "domain"):
            cookie[lower] = setting
        elif lower in ("httponly", "secure"):
            cookie["httpOnly" if lower == "httponly" else lower] = True
        elif lower == "expires":
            try:  # importers refuse a file with any other form
                expires = parsedate_to_datetime(setting)
            except (ValueError, OverflowError):
                continue
            if expires.tzinfo is not None:
                cookie["expires"] = expires.isoformat()
    return cookie


def _response(response: Response | None) -> dict[str, Any]:
    """A response. One that was not seen has status 0, as in the archives of browsers."""
    if response is None:
        return {
            "status": 0,
            "statusText": "",
            "httpVersion": "",
            "cookies": [],
            "headers": [],
            "content": {"size": 0, "mimeType": _UNKNOWN_TYPE},
            "redirectURL": "",
            "headersSize": _UNKNOWN,
            "bodySize": _UNKNOWN,
            "_error": "no response seen",
        }
    return {
        "status": response.head.status,
        "statusText": response.head.reason,
        "content": _content(response),
        "redirectURL": _readable(response.head.fields.get("location") or ""),
        **_message(response),
        "cookies": [cookie for cookie in map(_set_cookie, response.head.fields.all("set-cookie")) if cookie],
    }


def _message(message: Request | Response) -> dict[str, Any]:
    """The members that requests and responses have in common."""
    head, end = message.head, message.end
    members: dict[str, Any] = {
        "httpVersion": head.version,
        "headers": _pairs(head.headers),
        "headersSize": head.size,
        "bodySize": end.size,
    }
    if end.truncated:
        kept = f"{len(end.body)} of {end.size} bytes of the body were kept"
        members["comment"] = kept if end.size > len(end.body) else "the end of the body was not seen"
    if end.trailers:
        members["_trailers"] = _pairs(end.trailers)
    return members


def _content(response: Response) -> dict[str, Any]:
    """The body as its receiver reads it. `size` is its size after decoding; `compression` what the coding has saved."""
    found, sent = content(response), response.end.size
    members: dict[str, Any] = {"size": len(found.data) if found.decoded else sent}
    if found.decoded and found.whole:
        members["compression"] = len(found.data) - sent
    return members | _body(response, found, "encoding")


def _body(message: Request | Response, found: MessageContent, encoding: str) -> dict[str, str]:
    """Type and text of a body, decoded. If it is not UTF-8, it is in base64, which the member `encoding` says."""
    members = {"mimeType": message.head.fields.get("content-type") or _UNKNOWN_TYPE}
    try:
        members["text"] = found.data.decode("utf-8")
    except UnicodeDecodeError:
        members |= {"text": base64.b64encode(found.data).decode("ascii"), encoding: "base64"}
    return members | ({"comment": found.remark} if found.remark else {})


def _pairs(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in pairs]
