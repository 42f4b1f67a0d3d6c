"""gRPC calls, from the header fields and the body of an HTTP/2 stream (specification: "gRPC over HTTP2").

A body is a sequence of messages. Each has a prefix: one octet of flags, four octets of length, big-endian. The status
of a call is in the trailers, or in the header fields of a response that has nothing else.

gRPC-Web (specification: "gRPC Web") runs over HTTP/1.1 as well. Its response has the trailers in the body: in a last
message whose flags have the bit 0x80, as header lines. In its text form the body is base64, in pieces that each may end
with padding.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, replace
from typing import Final, NamedTuple
from urllib.parse import unquote

from tapper.protocols.headers import Headers
from tapper.protocols.messages import End, Request, Response

MOST_SIZES: Final = 64
"""How many sizes of messages are kept for each direction. All messages are counted."""
_PREFIX: Final = 5
_COMPRESSED: Final = 1
_TRAILERS: Final = 0x80
WEB: Final = "application/grpc-web"
"""How the content-type of gRPC-Web begins."""
WEB_TEXT: Final = WEB + "-text"
STATUS_NAMES: Final = (  # noqa: SIM905 - a list would be a name a line
    "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED "
    "RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS "
    "UNAUTHENTICATED"
).split()
"""By status."""


# Nothing changes these records. tapper/protocols/messages.py says why they are not frozen.


@dataclass(slots=True)
class Messages:
    """The messages of one direction of a call."""

    count: int
    """Messages that began."""
    sizes: tuple[int, ...]
    """Sizes of the first MOST_SIZES messages, in octets as they were sent (perhaps compressed)."""
    exact: bool
    """False if bytes were lost, or were no messages: count and sizes are of what came before."""


NO_MESSAGES = Messages(0, (), exact=True)


@dataclass(slots=True)
class Call:
    """`service` and `method` are None unless the path was seen and is /service/method."""

    service: str | None
    method: str | None
    status: int | None
    """None if it was not seen."""
    message: str | None
    requests: Messages
    responses: Messages

    @property
    def status_name(self) -> str | None:
        is_known = self.status is not None and 0 <= self.status < len(STATUS_NAMES)
        return STATUS_NAMES[self.status] if is_known and self.status is not None else None


class GrpcMessage(NamedTuple):
    flags: int
    size: int
    """Octets as they were sent."""
    body: bytes
    """Its beginning."""


class MessageReader:
    """Reads the messages of a body, given piece by piece, and counts them. `limit` bytes of each are kept. With
    `is_web` a message may hold trailers: it is not counted, and ends the body."""

    __slots__ = ("_body", "_count", "_is_broken", "_is_web", "_left", "_limit", "_prefix", "_sizes")

    def __init__(self, limit: int = 0, *, is_web: bool = False) -> None:
        self._limit = limit
        self._is_web = is_web
        self._prefix = b""  # of the current message, as far as it has come
        self._left = 0  # octets of that message that have not come
        self._body = b""
        self._count = 0
        self._sizes: list[int] = []
        self._is_broken = False  # the next octet is no longer known to be a prefix's or a message's

    @property
    def held(self) -> int:
        return len(self._prefix) + len(self._body)

    def feed(self, data: bytes) -> list[GrpcMessage]:
        """The messages that these bytes complete."""
        messages: list[GrpcMessage] = []
        at, stop = 0, len(data)
        while at < stop and not self._is_broken:
            # 1. Read a prefix, perhaps in parts.
            if len(self._prefix) < _PREFIX:
                piece = data[at : at + _PREFIX - len(self._prefix)]
                at += len(piece)
                self._prefix += piece
                is_trailers = self._is_web and self._prefix[0] & _TRAILERS != 0
                self._is_broken = self._prefix[0] > _COMPRESSED and not is_trailers
                if self._is_broken or len(self._prefix) < _PREFIX:
                    continue
                self._left = int.from_bytes(self._prefix[1:], "big")
                if not is_trailers:
                    self._count += 1
                    if len(self._sizes) < MOST_SIZES:
                        self._sizes.append(self._left)
            # 2. Read its message.
            if len(self._body) < self._limit:
                self._body += data[at : at + min(self._left, self._limit - len(self._body))]
            step = min(self._left, stop - at)
            self._left -= step
            at += step
            # 3. The message is complete.
            if not self._left:
                messages.append(GrpcMessage(self._prefix[0], int.from_bytes(self._prefix[1:], "big"), self._body))
                self._is_broken = self._prefix[0] > _COMPRESSED
                self._prefix = self._body = b""
        return messages

    def lose(self) -> None:
        """Bytes are missing here: nobody knows where the next message begins."""
        self._is_broken = True
        self._body = b""

    def messages(self) -> Messages:
        """The messages so far."""
        is_exact = not (self._is_broken or self._prefix)
        return Messages(self._count, tuple(self._sizes), exact=is_exact)


def is_grpc(content_type: str | None) -> bool:
    """Whether a content-type is application/grpc, perhaps with a suffix or parameters."""
    kind = (content_type or "").lower()
    return kind.startswith("application/grpc") and kind[16:17] in ("", "+", ";", " ")


def call(target: str, fields: Headers, trailers: Headers, requests: Messages, responses: Messages) -> Call:
    """A call, from its :path ("" if unknown) and its response's header fields and trailers."""
    service, method = called(target)
    status: int | None = None
    message: str | None = None
    for section in (fields, trailers):
        for name, value in section:
            if name == "grpc-status":
                if value.isascii() and value.isdigit() and len(value) <= 9:
                    status = int(value)
            elif name == "grpc-message":
                message = unquote(value)  # percent-encoded UTF-8; other octets become U+FFFD
    return Call(service, method, status, message, requests, responses)


def called(target: str) -> tuple[str | None, str | None]:
    """The service and the method that a :path names; (None, None) for a path of another form."""
    parts = target.split("/")
    return (parts[1], parts[2]) if len(parts) == 3 and not parts[0] and parts[1] else (None, None)


def web_call(request: Request | None, response: Response) -> Call:
    """The call of an exchange whose response is gRPC-Web. Messages and trailers are read from the bodies as far as they
    were kept."""
    requests, _ = (NO_MESSAGES, ()) if request is None else _web_messages(request.end, _content_type(request))
    responses, trailers = _web_messages(response.end, _content_type(response))
    target = "" if request is None else request.head.target
    return call(target, response.head.headers, (*response.end.trailers, *trailers), requests, responses)


def _content_type(message: Request | Response) -> str:
    return (message.head.fields.get("content-type") or "").lower()


def from_base64(text: bytes) -> tuple[bytes, bool]:
    """The bytes that groups of four characters stand for, up to the first group that is no base64; and whether there is
    one. Characters after the last whole group are passed over."""
    decoded = bytearray()
    for at in range(0, len(text) - len(text) % 4, 4):
        try:
            decoded += base64.b64decode(text[at : at + 4], validate=True)
        except binascii.Error:
            return bytes(decoded), True
    return bytes(decoded), False


def _web_messages(end: End, content_type: str) -> tuple[Messages, Headers]:
    """The messages in a body, and the trailers in it."""
    body = from_base64(end.body)[0] if content_type.startswith(WEB_TEXT) else end.body
    reader = MessageReader(len(body), is_web=True)
    messages = reader.feed(body)
    if messages and messages[-1].flags & _TRAILERS:
        lines = messages.pop().body.decode("latin-1").split("\r\n")
        fields = [line.partition(":") for line in lines if ":" in line]
        trailers = tuple((name.strip().lower(), value.strip()) for name, _, value in fields)
        return replace(reader.messages(), exact=True), trailers
    if end.truncated:
        reader.lose()
    return reader.messages(), ()
