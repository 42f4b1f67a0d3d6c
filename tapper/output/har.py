"""HTTP Archive 1.2 (specification by Jan Odvarko), which the developer tools of browsers open.

Each entry is written at once, on a line of its own. An archive whose writer was killed lacks only its last line:
append `]}}` to complete it. Fields that begin with an underscore are additions, as the specification allows.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from tapper.output.filters import host_of
from tapper.output.format import Format
from tapper.output.records import Place, Totals
from tapper.protocols.headers import Headers
from tapper.protocols.messages import End, Request, Response
from tapper.protocols.records import ExchangeRecord

_encode = json.JSONEncoder(separators=(",", ":")).encode
_UNKNOWN = -1  # the specification's value for an unknown size
_UNKNOWN_TYPE = "x-unknown"  # as browsers write it


class Har(Format):
    """It counts the entries, and the responses that it leaves out."""

    def __init__(self) -> None:
        self._entries = 0
        self._without_request = 0

    def hello(self, version: str, _pid: int) -> str:
        creator = _encode({"name": "tapper-harness reference", "version": version})
        return f'{{"log":{{"version":"1.2","creator":{creator},"entries":['

    def exchange(self, place: Place, record: ExchangeRecord) -> str:
        """An entry. None for a response without its request: the archive requires the request's method and URL."""
        exchange, leg = record.exchange, record.leg
        if exchange.request is None:
            self._without_request += 1
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
        left_out = f"{self._without_request} responses without their requests are left out"
        comment = f',"comment":{_encode(left_out)}' if self._without_request else ""
        return f"\n]{comment}}}}}\n"


def _moment(ts: int) -> str:
    """Nanoseconds since 1970 as ISO 8601, to the microsecond."""
    seconds, nanoseconds = divmod(ts, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _timing(request: Request, response: Response | None) -> dict[str, Any]:
    """The members about time, in milliseconds. `time` is the sum of the three timings, none of which is negative: a
    server may answer before the request is complete."""
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
    entry: dict[str, Any] = {
        "method": head.method,
        "url": url,
        "httpVersion": head.version,
        "cookies": [],  # they are among the headers, where redaction finds them
        "headers": _fields(head.headers),
        "queryString": _fields(tuple(parse_qsl(target.partition("?")[2], keep_blank_values=True))),
        "headersSize": head.size,
        "bodySize": end.size,
        **_rest(end),
    }
    if end.size:
        text, encoding = _text(end.body)
        entry["postData"] = {
            "mimeType": head.fields.get("content-type") or _UNKNOWN_TYPE,
            "params": [],
            "text": text,
        }
        if encoding:
            entry["postData"]["_encoding"] = encoding
    return entry


def _url(host: str, target: str) -> str:
    return f"http://{host}{target}" if target.startswith("/") else f"http://{host}/{target}"


def _response(response: Response | None) -> dict[str, Any]:
    """A response. One that was not seen has status 0, as in the archives of browsers."""
    if response is None:
        nothing = {"size": 0, "mimeType": _UNKNOWN_TYPE}
        head: dict[str, Any] = {"status": 0, "statusText": "", "httpVersion": "", "cookies": [], "headers": []}
        sizes = {"headersSize": _UNKNOWN, "bodySize": _UNKNOWN, "_error": "no response seen"}
        return head | {"content": nothing, "redirectURL": ""} | sizes
    start, end = response.head, response.end
    content: dict[str, Any] = {
        "size": end.size,
        "mimeType": start.fields.get("content-type") or _UNKNOWN_TYPE,
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
        "redirectURL": start.fields.get("location") or "",
        "headersSize": start.size,
        "bodySize": end.size,
        **_rest(end),
    }


def _rest(end: End) -> dict[str, Any]:
    """The members about an incomplete body and about trailers, where there are any."""
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
    """The body as text, and None; if it is not UTF-8, the body in base64, and "base64"."""
    try:
        return body.decode("utf-8"), None
    except UnicodeDecodeError:
        return base64.b64encode(body).decode("ascii"), "base64"
