"""What a connection is seen to carry besides HTTP exchanges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS, by what its client says in the clear: on a pod's lo the application's own, on the wire mostly the mesh's."""

    ts: int
    """Nanoseconds since 1970: the connection's first TLS byte that was seen."""
    sni: str | None
    """The server's name; None where the client gave none or its ClientHello was not seen."""
    alpn: tuple[str, ...]
    """The protocols the client offers."""


@dataclass(frozen=True, slots=True)
class ByteStream:
    """A connection, or the rest of one, that nobody here can read."""

    ts: int
    """Nanoseconds since 1970: the first byte."""
    what: str
    """`other`, `http2` (no frame of it made sense), or what an HTTP/1 connection was turned into."""
    sizes: tuple[int, int]
    """Bytes from the client and from the server, lost ones included where their number is known."""
    lost: int
    """Of these, bytes that are missing here."""
    previews: tuple[bytes, bytes]
    """The first bytes of each."""
    client_known: bool
    """False where nothing told who is the client, and the side that was seen first was taken for it."""


@dataclass(frozen=True, slots=True)
class WebSocketMessage:
    """A message after an upgrade to WebSocket, or a control frame."""

    ts: int
    """Nanoseconds since 1970: the first byte."""
    sender: str
    """`client` or `server`."""
    opcode: int
    """Of the first frame (RFC 6455 section 5.2). 0 says that from here on nothing of this sender can be read."""
    size: int
    """Octets of the payload, inflated unless `deflated`; lost ones included where their number is known."""
    body: bytes
    """The payload's beginning, unmasked and inflated."""
    truncated: bool
    """Whether `body` is less than what was sent."""
    deflated: bool
    """Whether `body` is still compressed, because what came before is not known."""


Fact: TypeAlias = Tls | ByteStream | WebSocketMessage
