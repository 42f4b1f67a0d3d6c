"""gRPC over HTTP/2: what the fields and the body of a stream say ("gRPC over HTTP2", the protocol's specification).

A body is a sequence of messages, each after one octet of flags and four of length, big-endian. How a call ended is in
the trailers, or in the header fields of a response that has nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from tapper.protocols.headers import Headers
from tapper.runtime.memo import Memo

MOST_SIZES: Final = 64
"""Sizes of single messages that are kept for each direction; all are counted."""
_PREFIX: Final = 5
_COMPRESSED: Final = 1
STATUS_NAMES = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
]


# Nothing changes these records; tapper/protocols/messages.py says why they are not frozen, and have constructors.


@dataclass(slots=True)
class Messages:
    """The messages of one direction."""

    count: int
    """Those that began."""
    sizes: tuple[int, ...]
    """Of the first ones, in octets as they were sent (perhaps compressed)."""
    exact: bool
    """False where bytes were missing, or were no messages: then count and sizes are of what came before."""

    def __init__(self, count: int, sizes: tuple[int, ...], exact: bool) -> None:
        self.count = count
        self.sizes = sizes
        self.exact = exact


NO_MESSAGES = Messages(0, (), exact=True)


@dataclass(slots=True)
class Call:
    service: str | None
    method: str | None
    """Both None where the path was not seen or is not of the form /service/method."""
    status: int | None
    """None where it was not seen."""
    message: str | None
    requests: Messages
    responses: Messages

    def __init__(
        self,
        service: str | None,
        method: str | None,
        status: int | None,
        message: str | None,
        requests: Messages,
        responses: Messages,
    ) -> None:
        self.service = service
        self.method = method
        self.status = status
        self.message = message
        self.requests = requests
        self.responses = responses

    @property
    def status_name(self) -> str | None:
        known = self.status is not None and 0 <= self.status < len(STATUS_NAMES)
        return STATUS_NAMES[self.status] if known and self.status is not None else None


class Counter:
    """Follows the messages of a body, of which it keeps nothing."""

    __slots__ = ("_broken", "_count", "_prefix", "_remaining", "_sizes")

    def __init__(self) -> None:
        self._prefix = b""
        self._remaining = 0
        self._count = 0
        self._sizes: list[int] = []
        self._broken = False

    def feed(self, data: bytes) -> None:
        at, stop = 0, len(data)
        while at < stop and not self._broken:
            if self._remaining:
                step = min(self._remaining, stop - at)
                self._remaining -= step
                at += step
            elif self._prefix or stop - at < _PREFIX:
                piece = data[at : at + _PREFIX - len(self._prefix)]
                self._prefix += piece
                at += len(piece)
                if self._prefix[0] > _COMPRESSED:
                    self._broken = True
                elif len(self._prefix) == _PREFIX:
                    self._begin(self._prefix, 0)
                    self._prefix = b""
            else:
                self._begin(data, at)
                at += _PREFIX

    def _begin(self, data: bytes, at: int) -> None:
        """A whole prefix."""
        if data[at] > _COMPRESSED:
            self._broken = True
            return
        self._remaining = data[at + 1] << 24 | data[at + 2] << 16 | data[at + 3] << 8 | data[at + 4]
        self._count += 1
        if len(self._sizes) < MOST_SIZES:
            self._sizes.append(self._remaining)

    def lose(self) -> None:
        """Bytes are missing from here on."""
        self._broken = True

    def messages(self) -> Messages:
        whole = not (self._broken or self._prefix or self._remaining)
        return Messages(self._count, tuple(self._sizes), exact=whole)


def _is_grpc(content_type: str) -> bool:
    kind = content_type.lower()
    return kind.startswith("application/grpc") and kind[16:17] in ("", "+", ";", " ")


_ARE_GRPC: Final[Memo[str, bool]] = Memo(_is_grpc, len)


def is_grpc(content_type: str | None) -> bool:
    """Whether a message's content-type says so: application/grpc, perhaps with a suffix or parameters."""
    return content_type is not None and _ARE_GRPC[content_type]


def _named(target: str) -> tuple[str | None, str | None]:
    parts = target.split("/")
    return (parts[1], parts[2]) if len(parts) == 3 and not parts[0] and parts[1] else (None, None)


_NAMES: Final[Memo[str, tuple[str | None, str | None]]] = Memo(_named, len)  # a service has few methods


def call(target: str, fields: Headers, trailers: Headers, requests: Messages, responses: Messages) -> Call:
    """A call, from its :path ("" where unknown), and its response's fields and trailers."""
    service, method = _NAMES[target]
    status: int | None = None
    message: str | None = None
    for section in (fields, trailers):
        for name, value in section:
            if name == "grpc-status":
                if value.isascii() and value.isdigit() and len(value) <= 9:
                    status = int(value)
            elif name == "grpc-message":
                message = unquote(value)  # percent-encoded UTF-8; what is none becomes U+FFFD
    return Call(service, method, status, message, requests, responses)
