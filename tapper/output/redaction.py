"""Secrets out of sightings, before any output sees them.

What is replaced are values of header fields and trailer fields, by name. Targets and bodies are left as they were:
what is a secret there, nothing in the protocol says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from tapper.errors import UsageError
from tapper.protocols.exchange import Request, Response
from tapper.protocols.heads import Headers
from tapper.protocols.session import Sighting

REDACTED = "[redacted]"
ALWAYS = ("Authorization", "Cookie", "Set-Cookie", "Proxy-Authorization")
"""RFC 9110 sections 11.6.2 and 11.7.2, RFC 6265 sections 4.1 and 4.2."""

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # a field name, RFC 9110 section 5.1

M = TypeVar("M", Request, Response)


class Redaction:
    """Replaces the values of ALWAYS and of further fields; case does not matter, as it does not in HTTP.

    Raises UsageError for what cannot be a field's name.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        wanted = [*ALWAYS, *names]
        for name in wanted:
            if not _NAME.fullmatch(name):
                raise UsageError(f"{name!r} is not the name of a header field (--redact)")
        self._names = frozenset(name.lower() for name in wanted)

    def apply(self, sighting: Sighting) -> Sighting:
        """The sighting without secrets: itself, where it has none."""
        exchange = sighting.exchange
        request = None if exchange.request is None else self._message(exchange.request)
        response = None if exchange.response is None else self._message(exchange.response)
        if request is exchange.request and response is exchange.response:
            return sighting
        return replace(sighting, exchange=replace(exchange, request=request, response=response))

    def _message(self, message: M) -> M:
        headers, trailers = self._fields(message.head.headers), self._fields(message.end.trailers)
        if headers is message.head.headers and trailers is message.end.trailers:
            return message
        return replace(
            message, head=replace(message.head, headers=headers), end=replace(message.end, trailers=trailers)
        )

    def _fields(self, fields: Headers) -> Headers:
        names = self._names
        if not any(name.lower() in names for name, _ in fields):
            return fields
        return tuple((name, REDACTED if name.lower() in names else value) for name, value in fields)
