"""The frames that one side of an HTTP/2 connection sends (RFC 9113, RFC 7541)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hpack import Encoder

from harness.mesh import http2
from harness.mesh.http2 import PREFACE, frame

Fields = Sequence[tuple[str, str]] | Sequence[tuple[bytes, bytes]]


class BothSides(Protocol):
    """A connection on which both sides can be spoken for."""

    def exchange(self, request: bytes, response: bytes, /) -> None:
        """The client sends bytes, then the server."""


class Http2Sender:
    """One direction. It keeps a dynamic table, so its blocks have to be sent in the order of their making."""

    def __init__(self) -> None:
        self._encoder = Encoder()

    def headers(self, stream: int, fields: Fields, *, end: bool = False, pieces: int = 1) -> bytes:
        """A header block, in one HEADERS frame or in `pieces` frames with CONTINUATION; in more if it is too large."""
        block = self._encoder.encode(list(fields))
        size = min(-(-len(block) // pieces), http2.LARGEST_FRAME)
        parts = [block[at : at + size] for at in range(0, len(block), size)]
        frames = []
        for number, part in enumerate(parts):
            flags = http2.END_HEADERS if number == len(parts) - 1 else 0
            if number == 0 and end:
                flags |= http2.END_STREAM
            frames.append(frame(http2.CONTINUATION if number else http2.HEADERS, flags, stream, part))
        return b"".join(frames)

    @staticmethod
    def data(stream: int, body: bytes, *, end: bool = False, padding: int = 0) -> bytes:
        """A DATA frame; `padding` is how many bytes of it (section 6.1)."""
        flags = http2.END_STREAM if end else 0
        if padding:
            return frame(http2.DATA, flags | http2.PADDED, stream, bytes([padding]) + body + bytes(padding))
        return frame(http2.DATA, flags, stream, body)


def settings(*, ack: bool = False) -> bytes:
    """An empty SETTINGS frame: all values keep their defaults."""
    return frame(http2.SETTINGS, http2.ACK if ack else 0, 0, b"")


def rst_stream(stream: int, code: int) -> bytes:
    """A RST_STREAM frame with this error code (section 6.4)."""
    return frame(http2.RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last: int, code: int) -> bytes:
    """A GOAWAY frame: streams above `last` are not answered (section 6.8)."""
    return frame(http2.GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big"))


def begin(conversation: BothSides) -> None:
    """The connection's preface on either side (RFC 9113, section 3.4)."""
    conversation.exchange(PREFACE + settings(), settings())
    conversation.exchange(settings(ack=True), settings(ack=True))


def request_fields(method: str, path: str, extra: Fields = ()) -> list[tuple[str, str]]:
    """A request's header list."""
    return [(":method", method), (":scheme", "http"), (":authority", "shop.default.svc"), (":path", path), *extra]
