"""Facts: everything that a connection shows besides HTTP exchanges. All times are nanoseconds since 1970."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from tapper.protocols.messages import RequestHead, ResponseHead


@dataclass(frozen=True, slots=True)
class Tls:
    """A TLS connection. On a pod's lo it is the application's own TLS, on the wire mostly the mesh's."""

    ts: int
    """The first TLS byte that was captured."""
    sni: str | None
    """The server's name; None if the client sent none, or its ClientHello was not captured."""
    alpn: tuple[str, ...]
    """The protocols that the client offers."""


@dataclass(frozen=True, slots=True)
class ByteStream:
    """A connection, or the rest of one, that cannot be decoded."""

    ts: int
    """The first byte."""
    what: str
    """`other`; `http2` without a readable message; or the protocol that an HTTP/1 connection was upgraded to."""
    sizes: tuple[int, int]
    """Bytes from the client and from the server, with the missing ones as far as their number is known."""
    lost: int
    """The missing bytes among them."""
    previews: tuple[bytes, bytes]
    """The first bytes from the client and from the server."""
    client_known: bool
    """False if nothing told which side is the client; then the side that was captured first is called the client."""


@dataclass(frozen=True, slots=True)
class WebSocketMessage:
    """A WebSocket message, or a control frame."""

    ts: int
    """The first byte."""
    exchange_id: str
    """That of the exchange that opened the WebSocket."""
    sender: str
    """`client` or `server`."""
    opcode: int
    """Of the first frame (RFC 6455 section 5.2). 0: nothing more of this sender can be read."""
    size: int
    """Octets of the payload, inflated unless `deflated`, with the missing ones as far as their number is known."""
    body: bytes
    """The payload's beginning, unmasked and inflated."""
    truncated: bool
    """Whether `body` is less than the payload."""
    deflated: bool
    """Whether `body` is compressed, because the decompressor's window is not complete."""
    left_out: int = 0
    """Messages of this sender, in the same segment, that are not told, because too many short ones came at once."""


@dataclass(frozen=True, slots=True)
class RefusedAttempt:
    """An attempt to connect that the server's host refused: it answered the SYN with a RST."""

    ts: int
    """The SYN."""
    left_out: int
    """Refused attempts at the same server since the last fact that no fact tells, because they were too many."""


@dataclass(slots=True)
class StreamBegin:
    """An exchange that goes on: its response has begun, and has not ended a second later."""

    id: str
    """Also of its parts, and of the exchange that is told at its end."""
    request: RequestHead
    response: ResponseHead | None
    """None if it has not come."""

    @property
    def ts(self) -> int:
        """The request's first byte."""
        return self.request.ts


@dataclass(slots=True)
class StreamPart:
    """A part of a message of an exchange that goes on."""

    ts: int
    """The part's last byte. Of a part from before the StreamBegin: the last byte that had come until then."""
    id: str
    """The StreamBegin's."""
    kind: str
    """`event`, a server-sent event; `message`, a gRPC message; `data`, a piece of another body."""
    sender: str
    """`client` or `server`."""
    size: int
    """Octets as they were sent."""
    body: bytes
    """Its beginning. Of an event the data, whose lines are joined by line feeds."""
    truncated: bool
    event: str | None
    """The event's type and id."""
    event_id: str | None
    compressed: bool
    """Whether the gRPC message is compressed."""
    left_out: int
    """Parts before this one that no fact tells, because they were too many."""


Fact: TypeAlias = Tls | ByteStream | WebSocketMessage | RefusedAttempt | StreamBegin | StreamPart
