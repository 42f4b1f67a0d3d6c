"""What --verbose shows under an exchange's line: heads, fields and the beginnings of bodies, all of it escaped."""

from __future__ import annotations

from tapper.output.escape import escape, shortened
from tapper.protocols.exchange import Exchange, Request, Response
from tapper.protocols.messages import End

PREVIEW = 1024
"""Bytes of a body."""
_LONGEST_LINE = 1000


def details(exchange: Exchange) -> str:
    """Lines that begin with > for what the client sent and with < for what it got, as curl -v has it."""
    lines: list[str] = []
    request, response = exchange.request, exchange.response
    if request is not None:
        head = request.head
        lines += _message(">", f"{head.method} {head.target} {head.version}", request)
    if response is not None:
        start = response.head
        lines += _message("<", f"{start.version} {start.status} {start.reason}".rstrip(), response)
    return "".join(f"    {line}".rstrip() + "\n" for line in lines)


def _message(mark: str, first: str, message: Request | Response) -> list[str]:
    lines = [first, *(f"{name}: {value}" for name, value in message.head.headers), ""]
    lines += _body(message.end)
    lines += [f"{name}: {value}" for name, value in message.end.trailers]
    return [f"{mark} {escape(shortened(line, _LONGEST_LINE))}" for line in lines]


def _body(end: End) -> list[str]:
    """A line each, and what is not shown."""
    if not end.size:
        return []
    lines = end.body[:PREVIEW].decode("latin-1").splitlines() if end.body else []
    missing = end.size - min(len(end.body), PREVIEW)
    if missing:
        lines.append(f"[{missing} more bytes]")
    elif end.truncated:
        lines.append("[the rest was not seen]")
    return lines
