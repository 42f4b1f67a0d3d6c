"""A plan: the connections that are played, as plain data.

Nonces, bodies and segments follow from a plan by rule (`contents`): who has the file plays the same again. Sizes are
bytes, times are milliseconds, fields are text of one byte a character (ISO 8859-1).
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.adapters.contract import Feature
from harness.conformance.generated.checks import MOST_FIELD, FieldPairs, PlanError, check_fields, one_of, within

MOST_PODS = 5
MOST_TALKS = 40
MOST_EXCHANGES = 300
"""Of one connection."""
MOST_BODY = (1 << 20) + 1
MOST_BYTES = 64 << 20
"""Of all bodies of a plan."""
MOST_QUIET_MS = 5_000
MOST_MESSAGES = 64
PERMILLE = 1000
PLAIN_CUT = 1448
"""The size of the segments of plain talks that are cut: what a packet of Ethernet carries."""

CLIENT, SERVER = "client", "server"
SIDES = (CLIENT, SERVER)
INBOUND, OUTBOUND, ITSELF = "inbound", "outbound", "itself"
DIRECTIONS = (INBOUND, OUTBOUND, ITSELF)
HTTP1, HTTP2, UPGRADE, GRPC, WEBSOCKET = "http1", "http2", "h2c-upgrade", "grpc", "websocket"
PROTOCOLS = (HTTP1, HTTP2, UPGRADE, GRPC, WEBSOCKET)
PLAIN_METHODS = ("GET", "POST", "PUT", "DELETE")
KINDS = ("text", "noise", "lookalike")
CODINGS = ("", "gzip", "deflate")
LENGTH, CHUNKED, UNTIL_CLOSE = "length", "chunked", "close"
FRAMINGS = (LENGTH, CHUNKED, UNTIL_CLOSE)
FIN, RST, STAYS_OPEN = "fin", "rst", "open"
CLOSES = (FIN, RST, STAYS_OPEN)
ENVOY_RETURNS, POD_LEAVES, POD_JOINS, BURST = "envoy-returns", "pod-leaves", "pod-joins", "burst"
HAPPENINGS = (ENVOY_RETURNS, POD_LEAVES, POD_JOINS, BURST)

_NEEDED = {
    HTTP1: {Feature.HTTP1},
    HTTP2: {Feature.HTTP2},
    UPGRADE: {Feature.HTTP1, Feature.HTTP2},
    GRPC: {Feature.HTTP2, Feature.GRPC},
    WEBSOCKET: {Feature.HTTP1, Feature.WEBSOCKET},
}


@dataclass(frozen=True, slots=True)
class Content:
    """A body."""

    size: int = 0
    """Before it is coded."""
    kind: str = "text"
    """`text`: printable; `noise`: bytes of every value; `lookalike`: bytes that look like requests and answers."""
    coding: str = ""
    """Its content coding (RFC 9110, section 8.4)."""
    framing: str = LENGTH
    """How HTTP/1 ends it. HTTP/2 has `content-length` with `length`, and none otherwise."""
    piece: int = 4096
    """The size of a chunk, of a DATA frame, or of a gRPC message."""
    trailers: FieldPairs = ()

    def __post_init__(self) -> None:
        within("size", self.size, 0, MOST_BODY)
        within("piece", self.piece, 1, MOST_BODY)
        one_of("kind", self.kind, KINDS)
        one_of("coding", self.coding, CODINGS)
        one_of("framing", self.framing, FRAMINGS)
        check_fields(self.trailers)


@dataclass(frozen=True, slots=True)
class PlannedExchange:
    """A request and its answer. The target ends with a nonce; a field of either message has the nonce as well."""

    method: str = "GET"
    path: str = "/orders/"
    """The target up to the nonce."""
    status: int = 200
    request_fields: FieldPairs = ()
    request: Content = Content()
    response_fields: FieldPairs = ()
    response: Content = Content()
    interim: tuple[int, ...] = ()
    """Statuses of interim answers before the final one."""

    def __post_init__(self) -> None:
        within("status", self.status, 200, 599)
        within("the number of interim answers", len(self.interim), 0, 8)
        for status in self.interim:
            within("an interim status", status, 100, 199)
        within("the length of path", len(self.path), 1, MOST_FIELD)
        if not self.path.startswith("/") or not (self.path.isascii() and self.path.isprintable()) or " " in self.path:
            raise PlanError(f"path has to begin with / and to be printable ASCII without spaces, and is {self.path!r}")
        if not (self.method.isascii() and self.method.replace("-", "").isalnum() and len(self.method) <= 32):
            raise PlanError(f"method has to be letters, digits and hyphens, at most 32, and is {self.method!r}")
        check_fields(self.request_fields)
        check_fields(self.response_fields)

    @property
    def bodiless(self) -> bool:
        """True if this answer has no body, whatever its fields say (RFC 9112, section 6.3)."""
        return self.method == "HEAD" or self.status in (204, 304)

    @property
    def is_plain(self) -> bool:
        """Whether the method is a common one, the bodies have lengths, and nothing else is out of the ordinary."""
        ordinary = PlannedExchange(self.method, status=self.status, request=self.request, response=self.response)
        lengths = self.request.framing == self.response.framing == LENGTH
        return self.method in PLAIN_METHODS and lengths and self == ordinary


@dataclass(frozen=True, slots=True)
class PlannedMessage:
    """A WebSocket message, in `frames` frames."""

    sender: str = CLIENT
    text: bool = True
    size: int = 16
    frames: int = 1

    def __post_init__(self) -> None:
        one_of("sender", self.sender, SIDES)
        within("size", self.size, 1, MOST_BODY)
        within("frames", self.frames, 1, 8)


@dataclass(frozen=True, slots=True)
class Segmentation:
    """The segments that carry a connection's bytes.

    The numbers `swapped`, `repeated` and `lost` are rhythms: n means every n-th segment with data, 0 means none. If all
    are 0, real sockets carry the bytes; else the kit writes the frames to `lo` itself.
    """

    cut: int = 0
    """The most bytes of a segment; 0 for the bytes of a write in one segment."""
    merged: bool = False
    """Whether consecutive writes of one side are put together."""
    swapped: int = 0
    """A segment changes places with the next one of the same side."""
    repeated: int = 0
    lost: int = 0

    def __post_init__(self) -> None:
        within("cut", self.cut, 0, 60_000)
        for name in ("swapped", "repeated", "lost"):
            within(name, getattr(self, name), 0, 10_000)

    @property
    def in_disorder(self) -> bool:
        return bool(self.swapped or self.repeated or self.lost)


@dataclass(frozen=True, slots=True)
class Close:
    """How a connection ends."""

    how: str = FIN
    """`fin`, `rst`, or `open`: the tapper ends first."""
    side: str = CLIENT
    """The side that ends it."""
    after: int = PERMILLE
    """Permille of the connection's bytes that pass before: 1000 is all of them."""

    def __post_init__(self) -> None:
        one_of("how", self.how, CLOSES)
        one_of("side", self.side, SIDES)
        within("after", self.after, 0, PERMILLE)


@dataclass(frozen=True, slots=True)
class Talk:
    """One connection. A pod's call to `itself` has two legs: out of its application, and into it."""

    pod: int = 0
    direction: str = INBOUND
    protocol: str = HTTP1
    ipv6: bool = False
    localhost: bool = False
    """Inbound: delivered over the loopback address instead of from 127.0.0.6."""
    exchanges: tuple[PlannedExchange, ...] = (PlannedExchange(),)
    rounds: int = 1
    """How often the exchanges are played, each time with other nonces."""
    together: int = 1
    """How many requests are sent before their answers: pipelined, or open at once as streams."""
    messages: tuple[PlannedMessage, ...] = ()
    """The messages of a WebSocket."""
    quiet_ms: int = 0
    """A pause in the middle of the connection."""
    segments: Segmentation = Segmentation()
    close: Close = Close()

    def __post_init__(self) -> None:
        within("pod", self.pod, 0, MOST_PODS - 1)
        one_of("direction", self.direction, DIRECTIONS)
        one_of("protocol", self.protocol, PROTOCOLS)
        within("rounds", self.rounds, 1, MOST_EXCHANGES)
        within("the number of exchanges", len(self.exchanges) * self.rounds, 1, MOST_EXCHANGES)
        within("together", self.together, 1, 100)
        within("the number of messages", len(self.messages), 0, MOST_MESSAGES)
        within("quiet_ms", self.quiet_ms, 0, MOST_QUIET_MS)
        if self.direction == ITSELF and self.segments.in_disorder:
            raise PlanError("a pod's call to itself is played by real sockets, and so without disorder")
        until_close = [exchange.response.framing == UNTIL_CLOSE for exchange in self.played]
        if self.protocol == HTTP1 and any(until_close[:-1]):
            raise PlanError("only the last answer of a connection can end with it (framing close)")
        if self.protocol == HTTP1 and until_close[-1] and (self.close.how, self.close.side) != (FIN, SERVER):
            raise PlanError("an answer that ends with its connection (framing close) is ended by the server's FIN")
        if any(exchange.request.framing == UNTIL_CLOSE for exchange in self.exchanges):
            raise PlanError("a request cannot end with its connection (framing close)")

    @property
    def played(self) -> tuple[PlannedExchange, ...]:
        """All exchanges, in the order of their requests. A WebSocket has one, and `rounds` repeats its messages."""
        return self.exchanges[:1] if self.protocol == WEBSOCKET else self.exchanges * self.rounds

    @property
    def is_plain(self) -> bool:
        """Whether a tapper that only finds request lines at the beginning of packets has to report all exchanges: the
        connection is HTTP/1 over IPv4, and exchange head is in one packet."""
        return (
            (self.protocol, self.together, self.close) == (HTTP1, 1, Close())
            and self.segments in (Segmentation(), Segmentation(cut=PLAIN_CUT))
            and not self.ipv6
            and all(exchange.is_plain for exchange in self.exchanges)
        )


@dataclass(frozen=True, slots=True)
class Happening:
    """A change of a pod while the connections are played."""

    what: str = ENVOY_RETURNS
    """The pod's Envoy ends and another begins; the pod leaves or joins the targets; the targets change in a burst."""
    pod: int = 0
    at: int = 500
    """Permille of the turns of all connections that pass before."""

    def __post_init__(self) -> None:
        one_of("what", self.what, HAPPENINGS)
        within("pod", self.pod, 0, MOST_PODS - 1)
        within("at", self.at, 0, PERMILLE)


@dataclass(frozen=True, slots=True)
class Plan:
    """Pods, the connections on their `lo`, and the changes of the pods meanwhile."""

    name: str = "plan"
    """The nonces follow from it."""
    pods: int = 1
    talks: tuple[Talk, ...] = (Talk(),)
    happenings: tuple[Happening, ...] = ()

    def __post_init__(self) -> None:
        within("pods", self.pods, 1, MOST_PODS)
        within("the number of talks", len(self.talks), 1, MOST_TALKS)
        within("the number of happenings", len(self.happenings), 0, 20)
        for pod in [*(talk.pod for talk in self.talks), *(change.pod for change in self.happenings)]:
            if pod >= self.pods:
                raise PlanError(f"a plan of {self.pods} pods has no pod {pod}: they count from 0")
        size = sum(exchange.request.size + exchange.response.size for talk in self.talks for exchange in talk.played)
        within("the size of all bodies together", size, 0, MOST_BYTES)
        if not (self.name and len(self.name) <= 40 and self.name.replace("-", "").isalnum()):
            raise PlanError(f"name has to be letters, digits and hyphens, at most 40, and is {self.name!r}")

    @property
    def features(self) -> frozenset[Feature]:
        """The features that a tapper has to claim to be judged by the plan."""
        needed: set[Feature] = set()
        for talk in self.talks:
            needed |= set() if talk.is_plain else _NEEDED[talk.protocol]
            if talk.ipv6:
                needed.add(Feature.IPV6)
        if any(happening.what != ENVOY_RETURNS for happening in self.happenings):
            needed.add(Feature.TARGETS_DYNAMIC)
        return frozenset(needed)

    @property
    def exchanges(self) -> int:
        return sum(len(talk.played) for talk in self.talks)

    def __str__(self) -> str:
        talks = f"{len(self.talks)} conversation{'s' * (len(self.talks) != 1)}"
        return f"{talks} of {self.exchanges} exchange{'s' * (self.exchanges != 1)}"
