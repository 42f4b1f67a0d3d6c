"""The members of an entry of an HTTP Archive 1.2. Members that begin with an underscore are additions, as the
specification allows; `_webSocketMessages`, `_resourceType` and `_connectionId` are Chrome's."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from tapper.output.content import MessageContent, content
from tapper.output.filters import host_of
from tapper.output.ndjson import outcome_members
from tapper.output.records import Place
from tapper.protocols.exchange import Exchange
from tapper.protocols.facts import WebSocketMessage
from tapper.protocols.messages import Request, RequestHead, Response
from tapper.protocols.records import ExchangeRecord
from tapper.protocols.websocket import TEXT

_UNKNOWN: Final = -1  # the specification's value for an unknown size
_UNKNOWN_TYPE: Final = "x-unknown"  # as browsers write it
_UNKNOWN_METHOD: Final = "UNKNOWN"
_NO_URL_CHARACTER: Final = re.compile(r"[\x00-\x20\x7f\"<>\\^`{|}]")  # RFC 3986 section 2
_CHARSET: Final = re.compile(
    r";\s*charset=\"?(us-ascii|utf-?(?:8|16(?:le|be)?|32)|iso-8859-\d{1,2}|windows-125\d|koi8-[ru]|shift_jis|euc-(?:jp|kr)"
    r"|gb2312|gbk|gb18030|big5)\b"
)
"""The character sets of texts. Python has more, of which some take a time that is the square of the text's length."""


def entry_of(place: Place, record: ExchangeRecord, request: Request, scheme: str) -> dict[str, Any]:
    """The entry of an exchange with this request."""
    exchange, leg = record.exchange, record.leg
    entry = {
        "startedDateTime": _moment(exchange.ts),
        **_timing(request, exchange.response),
        "request": _request(request, str(leg.dst), scheme),
        "response": _response(exchange.response),
        "cache": {},
        "serverIPAddress": leg.dst.host,
        "connection": str(leg.dst.port),
        "_connectionId": f"{leg.src} {leg.dst}",
        "_pod_ip": leg.pod_ip,
        "_direction": leg.direction,
        "_mtls": leg.mtls,
        "_netns": place.netns,
        **outcome_members(exchange.outcome, "_"),
    }
    if leg.plaintext is not None:
        entry["_plaintext"] = leg.plaintext
    if leg.proxied_for is not None:
        entry["_proxied_for"] = str(leg.proxied_for)
    return entry


def opens_websocket(exchange: Exchange) -> bool:
    """Whether WebSocket messages follow (RFC 6455 section 4.2.2, RFC 8441 section 5)."""
    request, response = exchange.request, exchange.response
    if request is None or response is None:
        return False
    if response.head.status == 101:
        return (request.head.fields.get("upgrade") or "").lower() == "websocket"
    protocol = request.head.fields.get(":protocol") or ""
    return protocol.lower() == "websocket" and 200 <= response.head.status < 300


def message_of(message: WebSocketMessage) -> dict[str, Any]:
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
        "method": head.method or _UNKNOWN_METHOD,
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
    """A target whose bytes are latin-1 characters, as UTF-8 if it is UTF-8. Bytes that no URL has, and those outside
    ASCII of any other target, are percent-encoded, so that the URL keeps them."""
    target = _NO_URL_CHARACTER.sub(lambda found: f"%{ord(found[0]):02X}", target)
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
    """Type and text of a body, decoded. If it is no text in the character set that its type names, or else in UTF-8, it
    is in base64, which the member `encoding` says."""
    kind = message.head.fields.get("content-type") or _UNKNOWN_TYPE
    charset = _CHARSET.search(kind.lower())
    members = {"mimeType": kind}
    try:
        members["text"] = found.data.decode("utf-8" if charset is None else charset[1])
    except (UnicodeDecodeError, LookupError):
        members |= {"text": base64.b64encode(found.data).decode("ascii"), encoding: "base64"}
    return members | ({"comment": found.remark} if found.remark else {})


def _pairs(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in pairs]
