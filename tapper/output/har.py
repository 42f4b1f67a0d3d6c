"""HTTP Archive 1.2 (the specification by Jan Odvarko), which browsers' developer tools open.

It is written as it comes, an entry a line. A run that is killed loses nothing but the last line, `]}}`: whoever appends
that has the archive whole again.

What the archive has no place for is in fields that begin with an underscore, as the specification wants it.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from tapper.output.filters import field, host_of
from tapper.output.records import Place, Silent, Totals
from tapper.protocols.fieldlist import Headers
from tapper.protocols.messages import End, Request, Response
from tapper.protocols.records import ExchangeRecord

_encode = json.JSONEncoder(separators=(",", ":")).encode
_UNKNOWN = -1  # a size that nobody knows
_UNKNOWN_TYPE = "x-unknown"  # what browsers write


class Har(Silent):
    """A `tapper.output.records.Format`, with a memory: of how many entries it wrote and left out."""

    def __init__(self) -> None:
        self._entries = 0
        self._unasked = 0

    def hello(self, version: str, _pid: int) -> str:
        creator = _encode({"name": "tapper-harness reference", "version": version})
        return f'{{"log":{{"version":"1.2","creator":{creator},"entries":['

    def exchange(self, place: Place, record: ExchangeRecord) -> str:
        """An entry. Without a request there is none: nothing says what the archive must say of one."""
        exchange, leg = record.exchange, record.leg
        if exchange.request is None:
            self._unasked += 1
            return ""
        entry = {
            "startedDateTime": _moment(exchange.ts),
            **_timing(exchange.request, exchange.response),
            "request": _request(exchange.request, str(leg.dst)),
            "response": _response(exchange.response),
            "cache": {},
            "serverIPAddress": leg.dst.host,
            "connection": f"{leg.src} {leg.dst}",
            "_pod_ip": leg.pod_ip,
            "_direction": leg.direction,
            "_mtls": leg.mtls,
            "_netns": place.netns,
        }
        separator = ",\n" if self._entries else "\n"
        self._entries += 1
        return separator + _encode(entry)

    def ending(self) -> str:
        return "\n]}}\n"

    def bye(self, _totals: Totals) -> str:
        left_out = f"{self._unasked} responses without their requests are left out"
        comment = f',"comment":{_encode(left_out)}' if self._unasked else ""
        return f"\n]{comment}}}}}\n"


def _moment(ts: int) -> str:
    """Nanoseconds since 1970 as ISO 8601, to the microsecond."""
    seconds, nanoseconds = divmod(ts, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _timing(request: Request, response: Response | None) -> dict[str, Any]:
    """Milliseconds; `time` is the sum of the three. A server may answer before the request is complete."""
    send = max(0, request.end.ts - request.head.ts)
    wait = receive = 0
    if response is not None:
        wait = max(0, response.head.ts - request.end.ts)
        receive = max(0, response.end.ts - max(response.head.ts, request.end.ts))
    parts = {"send": send / 1e6, "wait": wait / 1e6, "receive": receive / 1e6}
    return {"time": (send + wait + receive) / 1e6, "timings": parts}


def _request(request: Request, server: str) -> dict[str, Any]:
    head, end = request.head, request.end
    target = head.target
    url = target if "://" in target and not target.startswith("/") else _url(host_of(request) or server, target)
    said: dict[str, Any] = {
        "method": head.method,
        "url": url,
        "httpVersion": head.version,
        "cookies": [],  # they are among the headers, redacted or not, and in one place only
        "headers": _fields(head.headers),
        "queryString": _fields(tuple(parse_qsl(target.partition("?")[2], keep_blank_values=True))),
        "headersSize": head.size,
        "bodySize": end.size,
        **_rest(end),
    }
    if end.size:
        text, encoding = _text(end.body)
        said["postData"] = {
            "mimeType": field(head.headers, "content-type") or _UNKNOWN_TYPE,
            "params": [],
            "text": text,
        }
        if encoding:
            said["postData"]["_encoding"] = encoding
    return said


def _url(host: str, target: str) -> str:
    return f"http://{host}{target}" if target.startswith("/") else f"http://{host}/{target}"


def _response(response: Response | None) -> dict[str, Any]:
    """Status 0 is what browsers write where no response came."""
    if response is None:
        nothing = {"size": 0, "mimeType": _UNKNOWN_TYPE}
        head: dict[str, Any] = {"status": 0, "statusText": "", "httpVersion": "", "cookies": [], "headers": []}
        sizes = {"headersSize": _UNKNOWN, "bodySize": _UNKNOWN, "_error": "no response seen"}
        return head | {"content": nothing, "redirectURL": ""} | sizes
    start, end = response.head, response.end
    content: dict[str, Any] = {
        "size": end.size,
        "mimeType": field(start.headers, "content-type") or _UNKNOWN_TYPE,
    }
    text, encoding = _text(end.body)
    content["text"] = text
    if encoding:
        content["encoding"] = encoding
    return {
        "status": start.status,
        "statusText": start.reason,
        "httpVersion": start.version,
        "cookies": [],
        "headers": _fields(start.headers),
        "content": content,
        "redirectURL": field(start.headers, "location") or "",
        "headersSize": start.size,
        "bodySize": end.size,
        **_rest(end),
    }


def _rest(end: End) -> dict[str, Any]:
    """What the archive has no place for, where there is something to say."""
    rest: dict[str, Any] = {}
    if end.truncated:
        kept = f"{len(end.body)} of {end.size} bytes of the body were kept"
        rest["comment"] = kept if end.size > len(end.body) else "the end of the body was not seen"
    if end.trailers:
        rest["_trailers"] = _fields(end.trailers)
    return rest


def _fields(fields: Headers) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in fields]


def _text(body: bytes) -> tuple[str, str | None]:
    """The body and its encoding: base64 where it is no UTF-8."""
    try:
        return body.decode("utf-8"), None
    except UnicodeDecodeError:
        return base64.b64encode(body).decode("ascii"), "base64"
