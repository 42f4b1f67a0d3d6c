"""The frames that one side of an HTTP/2 connection sends (RFC 9113, RFC 7541)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hpack import Encoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY, _CONTINUATION = 0x0, 0x1, 0x3, 0x4, 0x7, 0x9
_END_STREAM, _ACK, _END_HEADERS, _PADDED = 0x1, 0x1, 0x4, 0x8

Fields = Sequence[tuple[str, str]]


class BothSides(Protocol):
    """A connection on which both sides can be spoken for."""

    def exchange(self, request: bytes, response: bytes, /) -> None:
        """The client sends bytes, then the server."""


class Http2Sender:
    """One direction. It keeps a dynamic table, so its blocks have to be sent in the order of their making."""

    def __init__(self) -> None:
        self._encoder = Encoder()

    def headers(self, stream: int, fields: Fields, *, end: bool = False, pieces: int = 1) -> bytes:
        """A header block, in one HEADERS frame or in `pieces` frames with CONTINUATION."""
        block = self._encoder.encode(list(fields))
        size = -(-len(block) // pieces)
        parts = [block[at : at + size] for at in range(0, len(block), size)]
        frames = []
        for number, part in enumerate(parts):
            flags = _END_HEADERS if number == len(parts) - 1 else 0
            if number == 0 and end:
                flags |= _END_STREAM
            frames.append(_frame(_CONTINUATION if number else _HEADERS, flags, stream, part))
        return b"".join(frames)

    @staticmethod
    def data(stream: int, body: bytes, *, end: bool = False, padding: int = 0) -> bytes:
        """A DATA frame; `padding` is how many bytes of it (section 6.1)."""
        flags = _END_STREAM if end else 0
        if padding:
            return _frame(_DATA, flags | _PADDED, stream, bytes([padding]) + body + bytes(padding))
        return _frame(_DATA, flags, stream, body)


def settings(*, ack: bool = False) -> bytes:
    """An empty SETTINGS frame: all values keep their defaults."""
    return _frame(_SETTINGS, _ACK if ack else 0, 0, b"")


def rst_stream(stream: int, code: int) -> bytes:
    """A RST_STREAM frame with this error code (section 6.4)."""
    return _frame(_RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last: int, code: int) -> bytes:
    """A GOAWAY frame: streams above `last` are not answered (section 6.8)."""
    return _frame(_GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big"))


def begin(conversation: BothSides) -> None:
    """The connection's preface on either side (RFC 9113, section 3.4)."""
    conversation.exchange(PREFACE + settings(), settings())
    conversation.exchange(settings(ack=True), settings(ack=True))


def request_fields(method: str, path: str, extra: Fields = ()) -> list[tuple[str, str]]:
    """A request's header list."""
    return [(":method", method), (":scheme", "http"), (":authority", "shop.default.svc"), (":path", path), *extra]


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
