"""The NDJSON members of an exchange that goes on: of its beginning, and of its parts."""

from __future__ import annotations

from binascii import b2a_base64
from typing import Any

from tapper.protocols.facts import StreamBegin, StreamPart
from tapper.protocols.streaming import EVENT, MESSAGE


def begin_members(fact: StreamBegin) -> dict[str, Any]:
    request, response = fact.request, fact.response
    return {
        "exchange_id": fact.id,
        "method": request.method or None,
        "target": request.target or None,
        "version": request.version,
        "status": None if response is None else response.status or None,
        "request": {"headers": request.headers},
        "response": None if response is None else {"headers": response.headers},
    }


def part_members(part: StreamPart) -> dict[str, Any]:
    members: dict[str, Any] = {"exchange_id": part.id, "from": part.sender, "size": part.size}
    if part.kind == EVENT:
        members |= {"event": part.event, "id": part.event_id, "data": part.body.decode("utf-8", "replace")}
    else:
        members["body_b64"] = b2a_base64(part.body, newline=False).decode("ascii")
    if part.kind == MESSAGE:
        members["compressed"] = part.compressed
    members["truncated"] = part.truncated
    return members | ({"left_out": part.left_out} if part.left_out else {})
