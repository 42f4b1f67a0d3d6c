"""What gRPC adds to an exchange of HTTP/2 (gRPC over HTTP/2, PROTOCOL-HTTP2.md). Pure."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import unquote_to_bytes

from harness.conformance.oracle.model import TrueCall, TrueExchange, TrueMessage

_PREFIX = 5


def with_call(exchange: TrueExchange) -> TrueExchange:
    """The exchange with its call, where its request's content type is gRPC's; else as it was."""
    request = exchange.request
    if request is None or not _value(request, b"content-type").startswith(b"application/grpc"):
        return exchange
    response = exchange.response
    status = message = None
    if response is not None:
        told = _value(response, b"grpc-status")
        status = int(told) if told.isdigit() and len(told) < 10 else None
        encoded = _value(response, b"grpc-message")
        message = unquote_to_bytes(encoded).decode(errors="replace") if encoded else None
    _, *names = (exchange.target or "").split("/")
    service, method = names if len(names) == 2 else (None, None)
    answers = 0 if response is None else _count(response.body)
    return replace(exchange, call=TrueCall(service, method, status, message, _count(request.body), answers))


def _value(message: TrueMessage, name: bytes) -> bytes:
    """Of a field in the trailers, or else in the headers: of a response of trailers only they are the same."""
    return next((value for key, value in (*message.trailers, *message.fields) if key.lower() == name), b"")


def _count(body: bytes) -> int:
    """Messages that began: each has a byte of flags and four of length before it."""
    at = count = 0
    while at + _PREFIX <= len(body):
        at += _PREFIX + int.from_bytes(body[at + 1 : at + _PREFIX], "big")
        count += 1
    return count
