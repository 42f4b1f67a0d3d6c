"""Takes secrets out of records, before any format gets them.

What is secret is told by names, which stand here and nowhere else. A name counts wherever a peer would look for it: as
a header field, as a trailer field, and as a parameter in a URL. Bodies stay as they are: nothing in the protocol says
what is secret there. Of a malformed line only a field's name is shown, or a start line without its query.

The value of a secret field becomes `[redacted]`. In a URL the value becomes `REDACTED`, which may stand in a URL, as in
OpenTelemetry's semantic conventions for HTTP spans (attribute url.full), and so do user name and password.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Final
from urllib.parse import unquote_plus

from tapper.errors import UsageError
from tapper.protocols.facts import ByteStream, Fact, StreamBegin, Tls
from tapper.protocols.grpc import called
from tapper.protocols.headers import MASK, FieldMask, mask_values
from tapper.protocols.heads import TOKEN
from tapper.protocols.outcome import MalformedPart
from tapper.protocols.records import ExchangeRecord
from tapper.runtime.memo import Memo

NAMES: Final = (
    "auth",
    "authentication-info",  # RFC 7615
    "bearer",
    "code",  # RFC 6749
    "code_verifier",  # RFC 7636
    "cookie2",  # RFC 2965, as set-cookie2
    "credentials",
    "csrf",
    "dpop",  # RFC 9449
    "key",
    "pass",
    "phpsessid",
    "proxy-authentication-info",
    "pwd",
    "samlresponse",
    "set-cookie2",
    "sid",
    "sig",  # OpenTelemetry's conventions; Azure
    "ticket",
    "x-amzn-oidc-data",
    "x-registry-auth",
    "xsrf",
)
"""Names whose values are secret. Case, `-` and `_` make no difference: APIKey, api_key and Api-Key are one name."""

ENDINGS: Final = (
    "access-key",
    "access-key-id",  # OpenTelemetry's conventions have AWSAccessKeyId
    "api-key",
    "assertion",  # client_assertion (RFC 7521)
    "auth-code",
    "auth-key",
    "authorization",  # RFC 9110, sections 11.6.2 and 11.7.2
    "authorization-code",
    "cookie",  # RFC 6265
    "credential",  # X-Amz-Credential, X-Goog-Credential
    "customer-key",  # X-Amz-Server-Side-Encryption-Customer-Key
    "device-code",  # RFC 8628
    "encryption-key",
    "functions-key",
    "jwt",
    "otp",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "private-key",
    "secret",
    "secret-id",
    "secret-key",
    "session-id",
    "signature",  # OpenTelemetry's conventions have Signature and X-Goog-Signature
    "signing-key",
    "subscription-key",
    "token",  # access_token, X-Auth-Token, X-Amz-Security-Token, X-Vault-Token
    "token-hint",  # id_token_hint of OpenID Connect
)
"""Names that end like this are secret as well, as Proxy-Authorization and client_secret are."""

BINARY: Final = "-bin"
"""The end of the names of gRPC's binary metadata, whose values are in base64: the name before it counts."""

URL_ENDINGS: Final = (
    "authority",
    "callback",
    "destination",
    "endpoint",
    "host",
    "link",
    "location",
    "origin",
    "path",
    "redirect",
    "referer",
    "referrer",
    "refresh",
    "source",
    "uri",
    "url",
)
"""Fields whose names end like this contain a URL, of which the secret parts are hidden: Content-Location, Referer,
X-Original-URI, and also :authority and :path, which malformed trailers may have. A request's target is treated in the
same way."""

PROTOCOLS: Final = "sec-websocket-protocol"
"""Browsers cannot set Authorization for a WebSocket, so clients send a token as the name of a protocol."""

URL_MASK: Final = "REDACTED"
_MOST_PAIRS: Final = 512  # of a URL that are looked at: what comes after them is hidden
_DEPTH: Final = 3  # of URLs within parameters of URLs

_NAME = re.compile(f"{TOKEN}+")  # RFC 9110 section 5.1
_WORDS = re.compile(r"[A-Za-z0-9_-]+")  # user[password], filter.token, ?token, a;token, "token"
_USER = re.compile(r"([/\\]{2}|^)([^/\\?#]*)@")  # RFC 3986 section 3.2.1; CONNECT has no slashes
_QUERY = re.compile(r"[?#]")
_PAIR = re.compile(r"[?#&\s]([^&#=\s]*)=([^&#]*)")  # implicit grants put tokens behind # (RFC 6749 section 4.2.2)
_PARAMETER = re.compile(r"([;\s]([^;=/\s]*)=)([^;/]*)")  # of a path (RFC 3986 section 3.3)
_ASSIGNED = re.compile(r"([?=])")
_START_LINE = re.compile(r"\S{1,32}[ \t]+(?:/|\*|[A-Za-z]+://).*|HTTP/.*", re.DOTALL)
_MEMBER = re.compile(r'"([^"]*)"\s*:')  # of an object in JSON
_CREDENTIAL = re.compile(r"bearer|token|auth|jwt|key|secret|passw|eyj", re.IGNORECASE)

_SHOW, _HIDE, _URL, _PROTOCOL = range(4)
"""What is done to a field's value."""


def _plain(name: str) -> str:
    return name.lower().removesuffix(BINARY).replace("-", "").replace("_", "")


_PLAIN_NAMES: Final = frozenset(map(_plain, NAMES))
_PLAIN_ENDINGS: Final = tuple(map(_plain, ENDINGS))


class Redaction(FieldMask):
    """Hides the values of NAMES and ENDINGS and of the `names`, but not of the names to `keep`.

    Raises UsageError for a text that cannot be the name of a field, and for a name to keep that nothing hides, or that
    is one of `names`.
    """

    def __init__(self, names: Iterable[str] = (), keep: Iterable[str] = ()) -> None:
        names, keep = list(names), list(keep)
        for name, option in [*((name, "--redact") for name in names), *((name, "--keep") for name in keep)]:
            if not _NAME.fullmatch(name):
                raise UsageError(f"{name!r} is not the name of a header field or parameter ({option})")
        self._added = frozenset(map(_plain, names))
        self._kept: frozenset[str] = frozenset()
        self._treatments: Memo[str, int] = Memo(self._treatment, len)  # by name
        for name in keep:
            if _plain(name) in self._added:
                raise UsageError(f"--redact {name} and --keep {name} contradict each other: give one of them")
            if not self.hides(name):
                raise UsageError(f"{name!r} is not hidden, so there is nothing to keep: leave it out (--keep)")
        self._kept = frozenset(map(_plain, keep))
        self._treatments.clear()

    def apply(self, record: ExchangeRecord) -> None:
        """Redact an exchange in place: nothing later needs the original values."""
        exchange = record.exchange
        request, response, call = exchange.request, exchange.response, exchange.grpc
        if request is not None:
            head = request.head
            if "=" in head.target or "@" in head.target:
                head.target = self.url(head.target)
                if call is not None:
                    call.service, call.method = called(head.target)
            head.fields = head.fields.masked(self)
            if request.end.trailers:
                request.end.trailers = mask_values(request.end.trailers, self)
        if response is not None:
            response.head.fields = response.head.fields.masked(self)
            if response.end.trailers:
                response.end.trailers = mask_values(response.end.trailers, self)
        outcome = exchange.outcome
        if outcome.malformed:
            parts = tuple([replace(part, line=self._malformed(part)) for part in outcome.malformed])
            exchange.outcome = replace(outcome, malformed=parts)
        if call is not None and call.message is not None and self.hides("grpc-message"):
            call.message = MASK

    def fact(self, fact: Fact) -> Fact:
        """Bytes that were not decoded may contain anything, so their previews are dropped and only counts remain."""
        if isinstance(fact, ByteStream):
            what = MASK if self.hides("upgrade") else fact.what
            return replace(fact, what=what, previews=(b"", b""))
        if isinstance(fact, Tls) and fact.sni is not None:
            return replace(fact, sni=self.url(fact.sni))
        if isinstance(fact, StreamBegin):
            asked, answered = fact.request, fact.response
            request = replace(asked, target=self.url(asked.target), fields=asked.fields.masked(self))
            response = None if answered is None else replace(answered, fields=answered.fields.masked(self))
            return StreamBegin(fact.id, request, response)
        return fact

    def hides(self, name: str) -> bool:
        """Whether the values of fields and parameters with this name are hidden."""
        return self._treatments[name] == _HIDE

    def scans(self, name: str) -> bool:
        """Whether what is shown of a field with this name depends on its value."""
        return self._treatments[name] > _HIDE

    def shown(self, name: str, value: str) -> str:
        """What is shown of a field's value."""
        treatment = self._treatments[name]
        if treatment == _SHOW:
            return value
        if treatment == _URL:
            return self.url(value)
        return MASK if treatment == _HIDE or _CREDENTIAL.search(value) else value

    def url(self, text: str) -> str:
        """A URL, or the part of it that a request's target has, without its secrets."""
        return self._url(text, _DEPTH) if "=" in text or "@" in text else text

    def _treatment(self, name: str) -> int:
        for word in (name, *_WORDS.findall(unquote_plus(name))):
            plain = _plain(word)
            if plain in self._added:
                return _HIDE
            if plain not in self._kept and (plain in _PLAIN_NAMES or plain.endswith(_PLAIN_ENDINGS)):
                return _HIDE
        lower = name.lower()
        if lower.endswith(URL_ENDINGS):
            return _URL
        return _PROTOCOL if lower == PROTOCOLS and _plain(PROTOCOLS) not in self._kept else _SHOW

    def _url(self, text: str, depth: int) -> str:
        # 1. User name and password.
        if "@" in text:
            text = _USER.sub(_without_user, text)
        # 2. Parameters of the path.
        query = _QUERY.search(text)
        start = len(text) if query is None else query.start()
        path = text[:start]
        shown = [_PARAMETER.sub(self._parameter, path) if "=" in path else path]
        # 3. Parameters of query and fragment.
        for number, pair in enumerate(_PAIR.finditer(text, start)):
            if number >= _MOST_PAIRS:
                return "".join([*shown, text[start : pair.start() + 1], URL_MASK])
            if self._is_secret(pair[1], pair[2], depth):
                shown += text[start : pair.start(2)], URL_MASK
                start = pair.end()
        return "".join([*shown, text[start:]])

    def _malformed(self, part: MalformedPart) -> str | None:
        """The line of a malformed part. Nobody knows what a peer would take for a name in it."""
        line = part.line
        if line is None:
            return None
        if not part.is_start:
            name, colon, _ = line.partition(":")
            name = name.rstrip(" \t")
            return f"{name}: {MASK}" if colon and _NAME.fullmatch(name) else MASK
        if not _START_LINE.fullmatch(line):
            return MASK
        path = _ASSIGNED.split(" ".join([self.url(word) for word in line.split(" ")]), maxsplit=1)
        return f"{path[0]}{path[1]}{MASK}" if len(path) > 1 else path[0]

    def _parameter(self, match: re.Match[str]) -> str:
        return f"{match[1]}{URL_MASK}" if match[3] and self.hides(match[2]) else match[0]

    def _is_secret(self, name: str, value: str, depth: int) -> bool:
        """Whether a parameter is secret by its name, or has a URL or a query as its value that contains a secret."""
        if not value:
            return False
        if self.hides(name):
            return True
        if not depth or not any(mark in value for mark in '=@%"'):
            return False
        decoded = unquote_plus(value)
        inner = f"?{decoded}"
        if self._url(inner, depth - 1) != inner or any(map(self.hides, _MEMBER.findall(decoded))):
            return True
        return decoded != value and self._is_secret("", decoded, depth - 1)


def _without_user(match: re.Match[str]) -> str:
    user = f"{URL_MASK}:{URL_MASK}" if ":" in match[2] else URL_MASK
    return f"{match[1]}{user}@"
