"""HTTP Archive 1.2 (specification by Jan Odvarko), which the developer tools of browsers open.

Each entry is written at once, on a line of its own. An archive whose writer was killed lacks only its last line:
append `]}}` to complete it. Fields that begin with an underscore are additions, as the specification allows.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from tapper.output.filters import host_of
from tapper.output.format import Format
from tapper.output.ndjson import outcome_members
from tapper.output.records import Place, Totals
from tapper.protocols.messages import Request, Response
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
            **outcome_members(exchange.outcome, "_"),
        } | ({} if leg.proxied_for is None else {"_proxied_for": str(leg.proxied_for)})
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
    head = request.head
    url = target = head.target
    if target.startswith("/") or "://" not in target:
        url = f"http://{host_of(request) or server}/{target.removeprefix('/')}"
    members = {
        "method": head.method,
        "url": url,
        "queryString": _pairs(parse_qsl(target.partition("?")[2], keep_blank_values=True)),
        **_message(request),
    }
    if request.end.size:
        members["postData"] = {"params": [], **_body(request, "_encoding")}
    return members


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
        "content": {"size": response.end.size, **_body(response, "encoding")},
        "redirectURL": response.head.fields.get("location") or "",
        **_message(response),
    }


def _message(message: Request | Response) -> dict[str, Any]:
    """The members that requests and responses have in common."""
    head, end = message.head, message.end
    members: dict[str, Any] = {
        "httpVersion": head.version,
        "cookies": [],  # they are among the headers, where redaction finds them
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


def _body(message: Request | Response, encoding: str) -> dict[str, str]:
    """Type and text of a body. If it is not UTF-8, it is in base64, which the member `encoding` says."""
    kind, body = message.head.fields.get("content-type") or _UNKNOWN_TYPE, message.end.body
    try:
        return {"mimeType": kind, "text": body.decode("utf-8")}
    except UnicodeDecodeError:
        return {"mimeType": kind, "text": base64.b64encode(body).decode("ascii"), encoding: "base64"}


def _pairs(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in pairs]
