"""The oracle's data: connections, exchanges, expectations, differences. Plain values, no I/O.

Times are nanoseconds since 1970, as the kernel stamped the packets.
"""

from __future__ import annotations

import dataclasses
import enum
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.sandbox.frames import Frame

Address = tuple[str, int]
"""An IP address as text (RFC 5952 for IPv6), and a port."""
FieldLines = tuple[tuple[bytes, bytes], ...]
"""Header or trailer fields in order, without the blanks around a value; names as they were sent."""


@dataclass(frozen=True, slots=True)
class OneWay:
    """The bytes that one end of a connection sent, each once, from the first one on."""

    data: bytes
    offsets: tuple[int, ...] = ()
    """Where in `data` each packet's new bytes begin, ascending."""
    times: tuple[int, ...] = ()
    """When each of these packets crossed the interface; as long as `offsets`."""
    ended_ns: int | None = None
    """When its FIN crossed, or None."""

    def time_of(self, offset: int) -> int:
        """When the byte at this offset crossed; of an offset behind the end, when the last byte did. 0 without any."""
        if not self.times:
            return 0
        return self.times[max(bisect_right(self.offsets, offset) - 1, 0)]

    def behind(self, start: int) -> OneWay:
        """The stream's bytes from this offset on."""
        first = max(bisect_right(self.offsets, start) - 1, 0)
        offsets = tuple(max(offset - start, 0) for offset in self.offsets[first:])
        return OneWay(self.data[start:], offsets, self.times[first:], self.ended_ns)


@dataclass(frozen=True, slots=True)
class TcpConnection:
    """A connection on a pod's `lo`. A redirected one has replies from another address than its requests went to."""

    client: Address
    """Where the server's packets went."""
    server: Address
    """Where the client's packets went."""
    replies_from: Address
    """Where the server's packets came from."""
    requests: OneWay
    responses: OneWay
    began_ns: int
    last_ns: int
    flaw: str = ""
    """Why its streams are not known for certain: no handshake seen, bytes missing, two versions of the same bytes."""
    reset: bool = False
    reset_by: str | None = None
    """`client` or `server`: who sent the RST."""
    disordered: bool = False
    """Whether segments came in another order, again, or overlapping."""
    renumbered: Address | None = None
    """Where the client's packets came from, if that is another port than `client`: of sockets that share a port towards
    several destinations the kernel gives one another port when it redirects them."""

    has_proxy_header: bool = False
    """Whether the client's bytes began with a header of the PROXY protocol, which `requests` lacks."""
    proxied_for: Address | None = None
    """The client that this header names."""
    beyond: tuple[bytes, ...] = ()
    """The bytes after a hole, which neither stream has: each a piece without a hole, of either side."""

    @property
    def source(self) -> Address:
        """Where the client's packets came from."""
        return self.renumbered or self.client


@dataclass(frozen=True, slots=True)
class TrueMessage:
    """A request or a response as its sender wrote it, without transfer coding."""

    fields: FieldLines
    """Without pseudo-header fields (RFC 9113, section 8.3)."""
    body: bytes = b""
    trailers: FieldLines = ()
    complete: bool = True
    """Whether its end was on the wire."""
    chunked: bool = False
    until_close: bool = False
    authority: bytes = b""
    """HTTP/2's `:authority`."""


@dataclass(frozen=True, slots=True)
class TrueCall:
    """The gRPC fields of an exchange (gRPC over HTTP/2)."""

    service: str | None
    method: str | None
    """Both from a target of the form /service/method, else None."""
    status: int | None
    message: str | None
    requests: int
    responses: int


@dataclass(frozen=True, slots=True)
class TrueOutcome:
    """How an exchange ended, in the words of docs/tapper.md."""

    kind: str
    by: str | None = None
    """`client` or `server`; None where nobody ended it early."""
    code: str | int | None = None
    """The name of HTTP/2's error code, or its number."""


@dataclass(frozen=True, slots=True)
class TrueExchange:
    """A request and its final response; either may be missing."""

    protocol: str
    """`HTTP/1.1`, `HTTP/1.0` or `HTTP/2`: of the request, or of a response without one."""
    method: str | None
    target: str | None
    status: int | None
    request: TrueMessage | None
    response: TrueMessage | None
    first_ns: int
    """The first byte of the request, or of the response where there is no request."""
    last_ns: int
    """The last byte of either."""
    response_last_ns: int | None = None
    call: TrueCall | None = None
    reset: bool = False
    """Whether the stream or connection was reset before the exchange ended."""
    outcomes: tuple[TrueOutcome, ...] = ()
    """How it ended. Several where the packets allow for more than one word; none where it is not compared."""
    upgraded: bool = False
    """Whether the request came in HTTP/1 and the response in HTTP/2 (h2c upgrade). Then both versions are right."""


@dataclass(frozen=True, slots=True)
class TrueSocketMessage:
    """A WebSocket message or control frame (RFC 6455), inflated where it was compressed (RFC 7692)."""

    from_client: bool
    opcode: int
    payload: bytes
    first_ns: int
    last_ns: int
    whole: bool = True
    """False of one that the end of the connection cut off: then `payload` is what crossed of it."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """All that a connection carried."""

    connection: TcpConnection
    exchanges: tuple[TrueExchange, ...] = ()
    socket_messages: tuple[TrueSocketMessage, ...] = ()
    flaw: str = ""
    """Why not all of it is known for certain: what is read then is likely, and nothing of it has to be reported."""


@dataclass(frozen=True, slots=True)
class PodTruth:
    """The packets on one pod's `lo` and on its other interfaces, decoded."""

    name: str
    addresses: frozenset[str]
    frames: Sequence[Frame]
    netns: int | None = None
    outside: Sequence[Frame] = ()
    """The traffic of the pod's other interfaces, by which it reaches other pods."""
    lost: bool = False
    """Whether the recording itself lost packets: then it proves nothing."""
    foreign_envoy: bool = False
    """Whether a process in it claims another pod's address, so that a tapper may take it for that pod."""


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which a pod was a target and nothing happened by which a tapper may lose it."""

    pod: str
    start_ns: int
    end_ns: int


class Duty(enum.StrEnum):
    """The records that a tapper has to make of an exchange."""

    MUST = "must"
    MAY = "may"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Expected:
    """A record that a tapper should make: an exchange at one pod."""

    pod: str
    addresses: frozenset[str]
    netns: int | None
    connection: TcpConnection
    exchange: TrueExchange
    directions: frozenset[str]
    """The directions that are true of the exchange: `inbound`, `outbound`, or the contract's word for neither."""
    duty: Duty
    why: str = ""
    """Why it is no more than MAY, or is NEVER."""


class DifferenceKind(enum.StrEnum):
    """How a report differs from the truth."""

    INVENTED = "invented"
    """A record of what never happened."""
    FORBIDDEN = "forbidden"
    """A record of a pod that was never a target."""
    MISSING = "missing"
    REPEATED = "repeated"
    WRONG = "wrong"
    """A field that says something else."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One violation, in words that the tapper's author understands."""

    kind: DifferenceKind
    field: str
    """Which field of the record, e.g. `response.body`; empty where it is about the record as a whole."""
    what: str
    """Which exchange: `GET /orders/1 inbound at pod server (10.244.0.2)`."""
    expected: str
    seen: str
    leg: Expected | None = None
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.what}: expected {self.expected}; seen: {self.seen}"
