"""The lines that --verbose shows for an exchange: heads, fields and the beginnings of bodies, all of them escaped."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto

from tapper.output.content import content
from tapper.output.escape import escape, shortened
from tapper.protocols.exchange import Exchange
from tapper.protocols.messages import Request, Response

PREVIEW = 1024
"""Bytes of a body that are shown."""
_LONGEST_LINE = 1000


class LineKind(Enum):
    """The part of a message that a line shows."""

    START = auto()
    FIELD = auto()
    BODY = auto()
    REMARK = auto()


def detail_lines(exchange: Exchange) -> Iterator[tuple[str, LineKind, str]]:
    """(mark, kind, line) for each line. As in the output of curl -v, the mark > is for the request and < for the
    response."""
    request, response = exchange.request, exchange.response
    if request is not None:
        head = request.head
        yield from _message(">", f"{head.method} {head.target} {head.version}", request)
    if response is not None:
        start = response.head
        yield from _message("<", f"{start.version} {start.status} {start.reason}".rstrip(), response)


def details(exchange: Exchange) -> str:
    """The lines of an exchange as indented text."""
    return "".join(f"    {mark} {line}".rstrip() + "\n" for mark, _, line in detail_lines(exchange))


def _message(mark: str, first: str, message: Request | Response) -> Iterator[tuple[str, LineKind, str]]:
    lines = [(LineKind.START, first), *((LineKind.FIELD, f"{name}: {value}") for name, value in message.head.headers)]
    lines += [(LineKind.REMARK, ""), *_body(message)]
    lines += [(LineKind.FIELD, f"{name}: {value}") for name, value in message.end.trailers]
    for kind, line in lines:
        yield mark, kind, escape(shortened(line, _LONGEST_LINE))


def _body(message: Request | Response) -> list[tuple[LineKind, str]]:
    """The lines of a body, decoded, and remarks about the bytes that are not shown."""
    end = message.end
    if not end.size:
        return []
    found = content(message)
    lines = [(LineKind.BODY, line) for line in found.data[:PREVIEW].decode("latin-1").splitlines()]
    size = len(found.data) if found.decoded else end.size
    missing = size - min(len(found.data), PREVIEW)
    if missing:
        lines.append((LineKind.REMARK, f"[{missing} more bytes]"))
    elif end.truncated:
        lines.append((LineKind.REMARK, "[the rest was not seen]"))
    if found.remark:
        lines.append((LineKind.REMARK, f"[{found.remark}]"))
    return lines
