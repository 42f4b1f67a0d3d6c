"""gRPC calls, from the header fields and the body of an HTTP/2 stream (specification: "gRPC over HTTP2").

A body is a sequence of messages. Each has a prefix: one octet of flags, four octets of length, big-endian. The status
of a call is in the trailers, or in the header fields of a response that has nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from tapper.protocols.headers import Headers

MOST_SIZES: Final = 64
"""How many sizes of messages are kept for each direction. All messages are counted."""
_PREFIX: Final = 5
_COMPRESSED: Final = 1
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


class Counter:
    """Counts the messages of a body, given piece by piece. Keeps at most one incomplete prefix of it."""

    __slots__ = ("_broken", "_count", "_prefix", "_remaining", "_sizes")

    def __init__(self) -> None:
        self._prefix = b""
        self._remaining = 0  # octets of the current message that have not come
        self._count = 0
        self._sizes: list[int] = []
        self._broken = False  # the next octet is no longer known to be a prefix's or a message's

    def feed(self, data: bytes) -> None:
        at, stop = 0, len(data)
        while at < stop and not self._broken:
            # 1. Pass over the rest of a message.
            if self._remaining:
                step = min(self._remaining, stop - at)
                self._remaining -= step
                at += step
                continue
            # 2. Read a prefix, perhaps in parts.
            prefix = self._prefix + data[at : at + _PREFIX - len(self._prefix)]
            at += len(prefix) - len(self._prefix)
            if prefix[0] > _COMPRESSED:
                self._broken = True
            elif len(prefix) < _PREFIX:
                self._prefix = prefix
            else:
                self._prefix = b""
                self._remaining = int.from_bytes(prefix[1:], "big")
                self._count += 1
                if len(self._sizes) < MOST_SIZES:
                    self._sizes.append(self._remaining)

    def lose(self) -> None:
        """Bytes are missing here: nobody knows where the next message begins."""
        self._broken = True

    def messages(self) -> Messages:
        is_exact = not (self._broken or self._prefix or self._remaining)
        return Messages(self._count, tuple(self._sizes), exact=is_exact)


def is_grpc(content_type: str | None) -> bool:
    """Whether a content-type is application/grpc, perhaps with a suffix or parameters."""
    kind = (content_type or "").lower()
    return kind.startswith("application/grpc") and kind[16:17] in ("", "+", ";", " ")


def call(target: str, fields: Headers, trailers: Headers, requests: Messages, responses: Messages) -> Call:
    """A call, from its :path ("" if unknown) and its response's header fields and trailers."""
    parts = target.split("/")
    names_method = len(parts) == 3 and not parts[0] and parts[1]
    service, method = parts[1:] if names_method else (None, None)
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
