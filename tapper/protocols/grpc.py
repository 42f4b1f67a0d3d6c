"""gRPC over HTTP/2: what the fields and the body of a stream say ("gRPC over HTTP2", the protocol's specification).

A body is a sequence of messages, each after one octet of flags and four of length, big-endian. How a call ended is in
the trailers, or in the header fields of a response that has nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from tapper.protocols.heads import Headers

MOST_SIZES = 64
"""Sizes of single messages that are kept for each direction; all are counted."""
_PREFIX = 5
_COMPRESSED = 1
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


@dataclass(frozen=True, slots=True)
class Messages:
    """The messages of one direction."""

    count: int
    """Those that began."""
    sizes: tuple[int, ...]
    """Of the first ones, in octets as they were sent (perhaps compressed)."""
    exact: bool
    """False where bytes were missing, or were no messages: then count and sizes are of what came before."""


NO_MESSAGES = Messages(0, (), exact=True)


@dataclass(frozen=True, slots=True)
class Call:
    service: str | None
    method: str | None
    """Both None where the path was not seen or is not of the form /service/method."""
    status: int | None
    """None where it was not seen."""
    message: str | None
    requests: Messages
    responses: Messages

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
        at = 0
        while at < len(data) and not self._broken:
            if self._remaining:
                step = min(self._remaining, len(data) - at)
                self._remaining -= step
                at += step
                continue
            step = _PREFIX - len(self._prefix)
            self._prefix += data[at : at + step]
            at += step
            if self._prefix[0] > _COMPRESSED:
                self._broken = True
            elif len(self._prefix) == _PREFIX:
                self._remaining = int.from_bytes(self._prefix[1:], "big")
                self._prefix = b""
                self._count += 1
                if len(self._sizes) < MOST_SIZES:
                    self._sizes.append(self._remaining)

    def lose(self) -> None:
        """Bytes are missing from here on."""
        self._broken = True

    def messages(self) -> Messages:
        whole = not (self._broken or self._prefix or self._remaining)
        return Messages(self._count, tuple(self._sizes), exact=whole)


def is_grpc(headers: Headers) -> bool:
    """Whether a message's fields say so: application/grpc, perhaps with a suffix or parameters."""
    for name, value in headers:
        if name == "content-type":
            kind = value.lower()
            return kind.startswith("application/grpc") and kind[16:17] in ("", "+", ";", " ")
    return False


def call(target: str, answer: Headers, requests: Messages, responses: Messages) -> Call:
    """A call, from its :path ("" where unknown), and its response's fields and trailers, in this order."""
    parts = target.split("/")
    service, method = (parts[1], parts[2]) if len(parts) == 3 and not parts[0] and parts[1] else (None, None)
    status: int | None = None
    message: str | None = None
    for name, value in answer:
        if name == "grpc-status" and value.isascii() and value.isdigit() and len(value) <= 9:
            status = int(value)
        elif name == "grpc-message":
            message = unquote(value)  # percent-encoded UTF-8; what is none becomes U+FFFD
    return Call(service, method, status, message, requests, responses)
