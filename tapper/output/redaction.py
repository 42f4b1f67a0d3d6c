"""Secrets out of records, before any output sees them.

What is replaced are values of header fields and trailer fields, by name. Targets and bodies are left as they were:
what is a secret there, nothing in the protocol says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tapper.errors import UsageError
from tapper.protocols.fieldlist import FieldList, Headers, Template
from tapper.protocols.records import ExchangeRecord

REDACTED = "[redacted]"
ALWAYS = ("Authorization", "Cookie", "Set-Cookie", "Proxy-Authorization")
"""RFC 9110 sections 11.6.2 and 11.7.2, RFC 6265 sections 4.1 and 4.2."""

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # a field name, RFC 9110 section 5.1


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
        self._lengths = frozenset(map(len, wanted))

    def apply(self, record: ExchangeRecord) -> None:
        """Take the secrets out of it. Nothing else is changed, and nobody needs it as it was."""
        request, response = record.exchange.request, record.exchange.response
        # Not in a loop over both: attributes of what is one of two types would be looked up by name.
        if request is not None:
            request.head.fields = self._shown(request.head.fields)
            if request.end.trailers:
                request.end.trailers = self._without_secrets(request.end.trailers)
        if response is not None:
            response.head.fields = self._shown(response.head.fields)
            if response.end.trailers:
                response.end.trailers = self._without_secrets(response.end.trailers)

    def _shown(self, fields: FieldList) -> FieldList:
        template = fields.template
        shown = template.redacted if template.redactor is self else self._judged(template)
        if shown is None:
            return fields
        if not shown.template.varying:
            return shown
        return FieldList(shown.template, [fields.values[number] for number in shown.template.kept])

    def _judged(self, template: Template) -> FieldList | None:
        """The fields without secrets and without values; None where there are no secrets, whatever the values."""
        secret = self._secret(template.headers)
        template.redactor, template.redacted = self, None
        if secret:
            kept = [number for number, at in enumerate(template.varying) if at not in secret]
            varying = [template.varying[number] for number in kept]
            shown = Template(_hidden(template.headers, secret), varying, kept)
            shown.redactor = self
            template.redacted = FieldList(shown)
        return template.redacted

    def _without_secrets(self, fields: Headers) -> Headers:
        secret = self._secret(fields)
        return _hidden(fields, secret) if secret else fields

    def _secret(self, fields: Headers) -> list[int]:
        """Which of them are secret."""
        names, lengths = self._names, self._lengths
        # Their lengths tell most names apart from those that are secret.
        return [at for at, (name, _) in enumerate(fields) if len(name) in lengths and name.lower() in names]


def _hidden(fields: Headers, secret: list[int]) -> Headers:
    shown = list(fields)
    for at in secret:
        shown[at] = (fields[at][0], REDACTED)
    return tuple(shown)
