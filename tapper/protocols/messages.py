"""Messages, and the events that a reader of one direction gives: heads, ends, and losses.

No record changes once it is complete, but for the values that redaction takes out. They are not frozen, since making a
frozen one takes twice as long. The constructors are written out, since mypyc does not compile those of `dataclass`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from tapper.protocols.headers import HeaderList, Headers
from tapper.protocols.outcome import COMPLETE, ExchangeOutcome
from tapper.runtime.native import mypyc_attr

HEAD_LIMIT: Final = 64 * 1024
"""Longest head or trailer section. Envoy's own default is 60 KiB, nginx's 32 KiB, Apache's 8 KiB a line."""
BLOCK_LIMIT: Final = 256 * 1024
"""Longest header block of HTTP/2 that is kept to be decoded; of its fields no more than HEAD_LIMIT are kept. To know
the dynamic table, one has to decode even what nobody shows."""
_HEAD_COST: Final = 350  # bytes of memory, besides the fields
BODY_LIMIT: Final = 64 * 1024
"""Bytes of a body that are kept. The rest is counted."""


@mypyc_attr(acyclic=True)
@dataclass(slots=True)
class RequestHead:
    ts: int
    """Nanoseconds since 1970: the packet with the message's first byte."""
    seq: int
    """The sequence number of the message's first byte."""
    ack: int
    """The acknowledgement number of that byte's segment."""
    method: str
    """Empty if it is not known (HTTP/2 joined midway; a malformed request line); so is the target."""
    target: str
    version: str
    fields: HeaderList
    size: int
    """Octets of the head as it was sent."""

    def __init__(
        self,
        ts: int,
        seq: int,
        ack: int,
        method: str,
        target: str,
        version: str,
        fields: HeaderList,
        size: int,
    ) -> None:
        self.ts = ts
        self.seq = seq
        self.ack = ack
        self.method = method
        self.target = target
        self.version = version
        self.fields = fields
        self.size = size

    @property
    def headers(self) -> Headers:
        return self.fields.headers

    @property
    def cost(self) -> int:
        """Bytes of memory, roughly."""
        return _HEAD_COST + self.size + self.fields.cost


@mypyc_attr(acyclic=True)
@dataclass(slots=True)
class ResponseHead:
    ts: int
    """As in RequestHead. If interim responses came first, these are of the first one."""
    seq: int
    ack: int
    status: int
    """0 if it is not known."""
    reason: str
    version: str
    fields: HeaderList
    size: int

    def __init__(
        self,
        ts: int,
        seq: int,
        ack: int,
        status: int,
        reason: str,
        version: str,
        fields: HeaderList,
        size: int,
    ) -> None:
        self.ts = ts
        self.seq = seq
        self.ack = ack
        self.status = status
        self.reason = reason
        self.version = version
        self.fields = fields
        self.size = size

    @property
    def headers(self) -> Headers:
        return self.fields.headers

    @property
    def cost(self) -> int:
        """Bytes of memory, roughly."""
        return _HEAD_COST + self.size + self.fields.cost


@mypyc_attr(acyclic=True)
@dataclass(slots=True)
class End:
    ts: int
    """Nanoseconds since 1970: the packet with the message's last byte."""
    seq: int
    """The sequence number after the last byte."""
    body: bytes
    """The body's beginning: at most the limit, and nothing after lost bytes. Chunked coding is undone, no other is."""
    size: int
    """Octets of the body as it was sent; lost ones are included if their number is known."""
    truncated: bool
    """True if `body` is shorter than the body that was sent."""
    trailers: Headers
    outcome: ExchangeOutcome
    """How this message ended. OPEN or TIMEOUT: its end was not reached."""

    def __init__(
        self,
        ts: int,
        seq: int,
        body: bytes,
        size: int,
        truncated: bool,
        trailers: Headers,
        outcome: ExchangeOutcome = COMPLETE,
    ) -> None:
        self.ts = ts
        self.seq = seq
        self.body = body
        self.size = size
        self.truncated = truncated
        self.trailers = trailers
        self.outcome = outcome


@mypyc_attr(acyclic=True)
@dataclass(slots=True)
class Request:
    head: RequestHead
    end: End

    def __init__(self, head: RequestHead, end: End) -> None:
        self.head = head
        self.end = end


@mypyc_attr(acyclic=True)
@dataclass(slots=True)
class Response:
    head: ResponseHead
    end: End

    def __init__(self, head: ResponseHead, end: End) -> None:
        self.head = head
        self.end = end


@dataclass(frozen=True, slots=True)
class Lost:
    """The reader fell out of step. Messages may be missing here."""


Event: TypeAlias = RequestHead | ResponseHead | End | Lost
