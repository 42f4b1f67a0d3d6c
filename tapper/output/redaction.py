"""Secrets out of sightings, before any output sees them.

What is replaced are values of header fields and trailer fields, by name. Targets and bodies are left as they were:
what is a secret there, nothing in the protocol says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tapper.errors import UsageError
from tapper.protocols.exchange import Exchange
from tapper.protocols.heads import FieldList, Headers
from tapper.protocols.messages import End, Request, RequestHead, Response, ResponseHead
from tapper.protocols.session import Sighting

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

    def apply(self, sighting: Sighting) -> Sighting:
        """The sighting without secrets: itself, where it has none."""
        exchange = sighting.exchange
        request, response = exchange.request, exchange.response
        if request is not None and not self._is_clean(request):
            request = self._request(request)
        if response is not None and not self._is_clean(response):
            response = self._response(response)
        if request is exchange.request and response is exchange.response:
            return sighting
        return Sighting(sighting.leg, Exchange(request, response, exchange.incomplete, exchange.grpc))

    def _is_clean(self, message: Request | Response) -> bool:
        """Whether it is known already that there is no secret in it."""
        fields = message.head.fields
        return fields is not None and fields.redactor is self and fields.redacted is None and not message.end.trailers

    # Every record is made by its constructor: dataclasses.replace costs more than reading the message did.

    def _request(self, request: Request) -> Request:
        head, end = request.head, self._end(request.end)
        shown = self._shown(head)
        if shown is None:
            return request if end is request.end else Request(head, end)
        ts, seq, ack, headers = head.ts, head.seq, head.ack, shown.headers
        redacted = RequestHead(ts, seq, ack, head.method, head.target, head.version, headers, head.size, shown)
        return Request(redacted, end)

    def _response(self, response: Response) -> Response:
        head, end = response.head, self._end(response.end)
        shown = self._shown(head)
        if shown is None:
            return response if end is response.end else Response(head, end)
        ts, seq, ack, headers = head.ts, head.seq, head.ack, shown.headers
        redacted = ResponseHead(ts, seq, ack, head.status, head.reason, head.version, headers, head.size, shown)
        return Response(redacted, end)

    def _shown(self, head: RequestHead | ResponseHead) -> FieldList | None:
        """The fields without secrets; None where they have none."""
        fields = head.fields
        if fields is not None and fields.redactor is self:
            return fields.redacted
        headers = self._without_secrets(head.headers)
        redacted = None if headers is head.headers else FieldList(headers)
        if fields is not None:
            fields.redactor, fields.redacted = self, redacted
        return redacted

    def _end(self, end: End) -> End:
        if not end.trailers:
            return end
        trailers = self._without_secrets(end.trailers)
        return end if trailers is end.trailers else End(end.ts, end.seq, end.body, end.size, end.truncated, trailers)

    def _without_secrets(self, fields: Headers) -> Headers:
        names, lengths = self._names, self._lengths
        # Their lengths tell most names apart from those that are secret.
        secret = [at for at, (name, _) in enumerate(fields) if len(name) in lengths and name.lower() in names]
        if not secret:
            return fields
        shown = list(fields)
        for at in secret:
            shown[at] = (fields[at][0], REDACTED)
        return tuple(shown)
