"""Takes secrets out of exchanges, before any output gets them.

The values of header fields and trailer fields are replaced, by name. Targets and bodies stay as they are: nothing in
the protocol says what is a secret there. Of a malformed line nobody knows what is a name, so it stays only where it
looks like a start line, without query and userinfo, or up to the colon of a field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from tapper.errors import UsageError
from tapper.protocols.headers import MASK, mask_values
from tapper.protocols.heads import TOKEN
from tapper.protocols.outcome import MalformedPart
from tapper.protocols.records import ExchangeRecord

ALWAYS = ("Authorization", "Cookie", "Set-Cookie", "Proxy-Authorization")
"""RFC 9110 sections 11.6.2 and 11.7.2, RFC 6265 sections 4.1 and 4.2."""

_NAME = re.compile(f"{TOKEN}+")  # RFC 9110 section 5.1
_START_LINE = re.compile(r"\S{1,32}[ \t]+(?:/|\*|[A-Za-z]+://).*|HTTP/.*", re.DOTALL)
_USERINFO = re.compile(r"://[^/\s]*@")


class Redaction:
    """Replaces the values of the fields in ALWAYS, and of further ones. Names are compared without regard to case.

    Raises UsageError for a text that cannot be the name of a field.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        secret = [*ALWAYS, *names]
        for name in secret:
            if not _NAME.fullmatch(name):
                raise UsageError(f"{name!r} is not the name of a header field (--redact)")
        self._names = frozenset(name.lower() for name in secret)

    def apply(self, record: ExchangeRecord) -> None:
        """Redact the messages in place: nothing later needs the original values."""
        for message in (record.exchange.request, record.exchange.response):
            if message is not None:
                message.head.fields = message.head.fields.masked(self._names)
                if message.end.trailers:
                    message.end.trailers = mask_values(message.end.trailers, self._names)
        outcome = record.exchange.outcome
        if outcome.malformed:
            parts = tuple(replace(part, line=_without_secrets(part)) for part in outcome.malformed)
            record.exchange.outcome = replace(outcome, malformed=parts)


def _without_secrets(part: MalformedPart) -> str | None:
    line = part.line
    if line is None:
        return None
    if not part.is_start:
        name, colon, _ = line.partition(":")
        return f"{name}: {MASK}" if colon else MASK
    if not _START_LINE.fullmatch(line):
        return MASK
    path, question, _ = _USERINFO.sub(f"://{MASK}@", line).partition("?")
    return f"{path}?{MASK}" if question else path
