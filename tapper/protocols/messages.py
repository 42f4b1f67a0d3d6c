"""What a reader of one direction says: heads, ends, and that something was lost. And how much of a message is kept.

Nothing changes these records once they are made. They are not frozen all the same, nor are those of an exchange: a
frozen one takes twice as long to make, and six are made for each exchange. For the same reason their constructors are
written out: one that `dataclass` makes at run time stays plain Python where the rest is compiled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

from tapper.protocols.fieldlist import FieldList, Headers
from tapper.runtime.native import mypyc_attr

HEAD_LIMIT: Final = 64 * 1024
"""Longest head or trailer section. Envoy's own default is 60 KiB, nginx's 32 KiB, Apache's 8 KiB a line."""
BODY_LIMIT: Final = 64 * 1024
"""How much of a body is kept. The rest is counted."""


@mypyc_attr(acyclic=True)
@dataclass(slots=True)
class RequestHead:
    ts: int
    """Nanoseconds; the packet with the message's first byte. seq and ack are of that byte's segment, too."""
    seq: int
    ack: int
    method: str
    """This and the target are empty where they are not known (HTTP/2 joined midway)."""
    target: str
    version: str
    fields: FieldList
    size: int
    """Bytes of the head on the wire."""
    plain: bool = field(default=False, compare=False)
    """Whether the target is known to have nothing but ASCII that needs no escaping: no quotes, no backslashes."""

    def __init__(
        self,
        ts: int,
        seq: int,
        ack: int,
        method: str,
        target: str,
        version: str,
        fields: FieldList,
        size: int,
        plain: bool = False,
    ) -> None:
        self.ts = ts
        self.seq = seq
        self.ack = ack
        self.method = method
        self.target = target
        self.version = version
        self.fields = fields
        self.size = size
        self.plain = plain

    @property
    def headers(self) -> Headers:
        return self.fields.headers


@mypyc_attr(acyclic=True)
@dataclass(slots=True)
class ResponseHead:
    ts: int
    """As in RequestHead; of the first interim response where there was one."""
    seq: int
    ack: int
    status: int
    """0 where it is not known."""
    reason: str
    version: str
    fields: FieldList
    size: int

    def __init__(
        self,
        ts: int,
        seq: int,
        ack: int,
        status: int,
        reason: str,
        version: str,
        fields: FieldList,
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


@mypyc_attr(acyclic=True)
@dataclass(slots=True)
class End:
    ts: int
    """Nanoseconds; the packet with the message's last byte."""
    seq: int
    """The sequence number after the last byte."""
    body: bytes
    """The body's beginning: at most the limit, and nothing behind a hole. Chunked coding is undone, others are not."""
    size: int
    """The body's true size, lost bytes included where their number is known."""
    truncated: bool
    """Whether `body` is less than what was sent."""
    trailers: Headers

    def __init__(self, ts: int, seq: int, body: bytes, size: int, truncated: bool, trailers: Headers) -> None:
        self.ts = ts
        self.seq = seq
        self.body = body
        self.size = size
        self.truncated = truncated
        self.trailers = trailers


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
    """The reader fell out of step; messages may be missing here."""

    reason: str


Event: TypeAlias = RequestHead | ResponseHead | End | Lost
