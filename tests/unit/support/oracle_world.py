"""A small world for the oracle's tests: two pods, conversations of every kind on their `lo`, and a perfect report.

The perfect report is made from the exchanges that were written here, and not from what the oracle reads.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

from harness.adapters.contract import Feature
from harness.adapters.records import exchange
from harness.conformance import h2c
from harness.conformance.oracle import expectation
from harness.conformance.oracle.expectation import PodDecoded
from harness.conformance.oracle.judge import Question, answer
from harness.conformance.oracle.model import Difference, PodTruth, Span
from harness.mesh import replay
from harness.mesh.http2 import PREFACE
from harness.sandbox.frames import Frame
from harness.sandbox.pod import Pod

START_NS = 1_700_000_000 * 10**9
STEP_NS = 1_000_000
CLAIMS = frozenset(Feature) - {Feature.MIDSTREAM, Feature.PACKETS, Feature.REDACTION}
Fields = Sequence[tuple[str, str]]
Record = dict[str, Any]
TLS_RECORD = b"\x17\x03\x03\x00\x40" + bytes(range(64))
"""A record of application data (RFC 8446, section 5.1)."""
BESIDE_TLS = 244
"""The status of an exchange that crossed no other interface, while another one crossed in TLS the other way."""
UPGRADE = [("Connection", "Upgrade"), ("Upgrade", "websocket")]


def pod(number: int) -> Pod:
    """Its addresses are all that replays need."""
    return cast(Pod, SimpleNamespace(name=f"pod-{number}", ipv4=f"10.244.0.{number}", ipv6=f"fd00::{number}"))


@dataclass(frozen=True, slots=True)
class Wrote:
    """One exchange as its two ends wrote it."""

    method: str
    target: str
    status: int
    asked: Fields = ()
    answered: Fields = ()
    request_body: bytes = b""
    response_body: bytes = b""
    chunked: bool = False
    trailers: Fields = ()
    version: str = "HTTP/1.1"

    def request(self) -> bytes:
        return _message(f"{self.method} {self.target} HTTP/1.1", self.asked, self.request_body, False, ())

    def response(self) -> bytes:
        return _message(f"HTTP/1.1 {self.status} Fine", self.answered, self.response_body, self.chunked, self.trailers)


def _message(line: str, fields: Fields, body: bytes, chunked: bool, trailers: Fields) -> bytes:
    lines = [line, *(f"{name}: {value}" for name, value in _framed(fields, body, chunked))]
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    if not chunked:
        return head + body
    parts = [body[at : at + 100] for at in range(0, len(body), 100)]
    chunks = b"".join(b"%x;a=b\r\n%s\r\n" % (len(part), part) for part in parts)
    return head + chunks + b"0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in trailers).encode() + b"\r\n"


def _framed(fields: Fields, body: bytes, chunked: bool) -> list[tuple[str, str]]:
    return [*fields, *([("Transfer-Encoding", "chunked")] if chunked else [("Content-Length", str(len(body)))])]


@dataclass(slots=True)
class World:
    """What crossed two pods' `lo`, and what a perfect tapper tells of it."""

    pods: tuple[Pod, ...] = field(default_factory=lambda: (pod(1), pod(2)))
    frames: dict[str, list[Frame]] = field(default_factory=dict)
    outside: dict[str, list[Frame]] = field(default_factory=dict)
    """The frames of the pods' other interfaces."""
    records: list[Record] = field(default_factory=list)
    sockets: list[Record] = field(default_factory=list)
    counts: list[Record] = field(default_factory=list)
    """The records of types `ack`, `stat` and `bye`."""
    now_ns: int = START_NS
    ports: int = 40_000
    _read: list[PodDecoded] = field(default_factory=list)

    def judged(self, question: Question) -> list[Difference]:
        """What the oracle says; what crossed is read once, after which the world may not change."""
        self._read = self._read or [expectation.read_pod(truth) for truth in self.truths()]
        return answer(question, self._read)

    def leg(self, where: Pod, *, way: str = "inbound", ipv6: bool = False, port: int = 8080) -> replay.ReplayLeg:
        self.ports += 1
        if way == "inbound":
            return replay.inbound(where, port, self.ports, ipv6=ipv6)
        destination = ("fd00:96::1", 80) if ipv6 else ("10.96.77.10", 80)
        return replay.outbound(where, destination, self.ports)

    def play(self, where: Pod, frames: Iterable[bytes], *, outside: bool = False) -> tuple[int, int]:
        """Let frames cross the pod's `lo`, or its other interface; returns when the first and the last one did."""
        recorded = self.outside if outside else self.frames
        first = self.now_ns
        for data in frames:
            recorded.setdefault(where.name, []).append(Frame(self.now_ns, data))
            self.now_ns += STEP_NS
        return first, self.now_ns - STEP_NS

    @contextmanager
    def beneath(
        self, where: Pod, asked: bytes, answered: bytes, *, outgoing: bool = False
    ) -> Iterator[replay.ReplayLeg]:
        """A connection between the pod and another one that has no name. It carries these bytes, the request before
        what is played meanwhile, and the answer after it."""
        self.ports += 1
        own, other = str(where.ipv4), "10.244.0.99"
        server = (other if outgoing else own, 8080)
        leg = replay.ReplayLeg((own if outgoing else other, self.ports), server, server)
        maker = replay.FrameMaker(leg)
        self.play(where, [*maker.handshake(), *maker.data("client", asked)], outside=True)
        yield leg
        self.play(where, [*maker.data("server", answered), *maker.fin()], outside=True)

    def http1(
        self, where: Pod, several: Sequence[Wrote], *, way: str = "inbound", ipv6: bool = False
    ) -> replay.ReplayLeg:
        """A connection with these exchanges, one after the other."""
        leg = self.leg(where, way=way, ipv6=ipv6)
        pairs = [(each.request(), each.response()) for each in several]
        frames = replay.conversation(leg, pairs)
        began = self.now_ns
        self.play(where, frames)
        at = 3
        for each, (asked, answered) in zip(several, pairs, strict=True):
            ask, answer = _pieces(asked), _pieces(answered)
            first, last = began + at * STEP_NS, began + (at + ask + answer - 1) * STEP_NS
            self.tell(where, leg, way, each, first, last)
            at += ask + answer
        return leg

    def tell(self, where: Pod, leg: replay.ReplayLeg, way: str, each: Wrote, first_ns: int, last_ns: int) -> None:
        """Add the record of an exchange."""
        self.records.append(
            {
                "type": "http",
                "mtls": None,
                "ts": first_ns / 1e9,
                "duration_s": (last_ns - first_ns) / 1e9,
                "pod_ip": str(where.ipv4),
                "netns": 4026532000 + int(where.name[-1]),
                "direction": way,
                "src": _end(leg.client),
                "dst": _end(leg.replies_from),
                "method": each.method,
                "target": each.target,
                "version": each.version,
                "status": each.status,
                "request": _told(each, each.asked, each.request_body, ()),
                "response": _told(each, each.answered, each.response_body, each.trailers, chunked=each.chunked),
            }
        )

    def http2(self, where: Pod, several: Sequence[Wrote]) -> None:
        """A connection of HTTP/2 with these as streams, all open at once; trailers end a response that has some."""
        leg, client, server = self.leg(where), h2c.Http2Sender(), h2c.Http2Sender()
        asked, answered = PREFACE + h2c.settings(), h2c.settings()
        for number, each in enumerate(several):
            stream = 1 + 2 * number
            fields = h2c.request_fields(each.method, each.target, each.asked)
            asked += client.headers(stream, fields, end=not each.request_body, pieces=2)
            if each.request_body:
                asked += client.data(stream, each.request_body, end=True, padding=7)
        for number, each in reversed(list(enumerate(several))):
            stream = 1 + 2 * number
            answered += server.headers(stream, [(":status", str(each.status)), *each.answered])
            half = len(each.response_body) // 2
            answered += server.data(stream, each.response_body[:half])
            answered += server.data(stream, each.response_body[half:], end=not each.trailers)
            if each.trailers:
                answered += server.headers(stream, each.trailers, end=True)
        first, last = self.play(where, replay.conversation(leg, [(asked, answered)]))
        for each in several:
            self.tell(where, leg, "inbound", replace(each, version="HTTP/2"), first, last)
            del self.records[-1]["duration_s"]

    def websocket(self, where: Pod, each: Wrote, frames: Sequence[tuple[bytes, bytes]], told: Sequence[Record]) -> None:
        """An upgrade, and frames of client and server behind it."""
        leg = self.leg(where)
        first, last = self.play(where, replay.conversation(leg, [(each.request(), each.response()), *frames]))
        self.tell(where, leg, "inbound", each, first, last)
        self.sockets += [{"type": "websocket", "src": _end(leg.client), **record} for record in told]

    def count(self) -> None:
        """Tell what a perfect tapper counts, once everything has been played."""
        crossed = [(truth, len(truth.frames)) for truth in self.truths()]
        total = {"received": sum(count for _, count in crossed), "dropped": 0}
        self.counts += [
            {"type": "ack", "generation": 1},
            {"type": "stat", "received": 1, "dropped": 0},
            *(
                {"type": "stat", "netns": truth.netns, "interface": "lo", "received": count, "dropped": 0}
                for truth, count in crossed
            ),
            {"type": "stat", **total},
            {"type": "bye", "exchanges": len(self.records), "incomplete": 0, **total},
        ]

    def truths(self) -> list[PodTruth]:
        return [
            PodTruth(
                each.name,
                frozenset({str(each.ipv4), str(each.ipv6)}),
                self.frames.get(each.name, []),
                4026532000 + int(each.name[-1]),
                self.outside.get(each.name, []),
            )
            for each in self.pods
        ]

    def question(self, records: Iterable[Record] | None = None, **changes: Any) -> Question:
        """What the oracle is asked of these records, or of the perfect ones."""
        spans = [Span(each.name, START_NS - 1, self.now_ns + 1) for each in self.pods]
        seen = [exchange(record) for record in (self.records if records is None else records)]
        return replace(Question(self.truths(), spans, CLAIMS, seen, [*self.sockets, *self.counts]), **changes)


def _told(each: Wrote, fields: Fields, body: bytes, trailers: Fields, *, chunked: bool = False) -> Record:
    lines = list(fields) if each.version == "HTTP/2" else _framed(fields, body, chunked)
    return {
        "headers": [list(line) for line in lines],
        "body_b64": base64.b64encode(body).decode(),
        "body_size": len(body),
        "truncated": False,
        "trailers": [list(line) for line in trailers],
    }


def _pieces(data: bytes) -> int:
    return -(-len(data) // replay.DEFAULT_MSS)


def _end(address: tuple[str, int]) -> str:
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def everything() -> World:
    """Two pods with a conversation of each kind between plain ones, which prove that a tapper looked."""
    world = World()
    one, two = world.pods
    numbers = iter(range(1_000))

    def plain(status: int = 200, **more: Any) -> Wrote:
        number = next(numbers)
        fields: dict[str, Any] = {
            "asked": [("Host", "shop"), ("X-Asked", f"q{number}")],
            "answered": [("X-Answered", f"a{number}")],
        }
        target = f"/orders/nonce-{number:032x}"
        usual: dict[str, Any] = {"method": "GET", "target": target, "status": status, "response_body": b"ok\n"}
        return Wrote(**(usual | fields | more))

    for where in world.pods:
        world.http1(where, [plain()])
    cookies = [("Set-Cookie", "a=1; HttpOnly"), ("X-Other", "x"), ("Set-Cookie", "b=2")]
    world.http1(one, [plain(210), plain(211, answered=cookies), plain(212)])
    world.http1(one, [plain(213)], way="outbound")
    world.http1(one, [plain(214, response_body=b"sixth " * 50)], ipv6=True)
    world.http1(one, [plain(215)], way="outbound", ipv6=True)
    world.http1(two, [plain(216, response_body=bytes(range(256)) * 90, chunked=True, trailers=[("X-Sum", "42")])])
    world.http1(two, [plain(217, method="POST", request_body=b"up " * 900, response_body=b"big " * 8_000)])
    world.http1(
        two, [Wrote("GET", "/healthz", 200, [("Host", "probe")], [("Server", "x")], b"", b"ok") for _ in range(3)]
    )
    world.http2(
        two,
        [
            plain(220 + number, method="POST", request_body=b"question %d" % number * 3, response_body=b"answer" * 40)
            for number in range(6)
        ],
    )
    through = plain(230)  # one request on its way: it leaves one pod, and enters the other
    world.http1(two, [through])
    world.http1(one, [through], way="outbound")
    call = [("content-type", "application/grpc"), ("te", "trailers")]
    message = b"\0\0\0\0\x05hello"
    world.http2(
        one,
        [
            Wrote(
                "POST",
                f"/shop.Orders/nonce-{next(numbers):032x}",
                200,
                call,
                call[:1],
                message,
                message + b"\0\0\0\0\x05world",
                trailers=[("grpc-status", "5"), ("grpc-message", "no%20such%20order")],
            )
        ],
    )
    world.records[-1]["grpc"] = {
        "status": 5,
        "message": "no such order",
        "requests": {"count": 1, "sizes": [5], "exact": True},
        "responses": {"count": 2, "sizes": [5, 5], "exact": True},
    }
    socket = plain(101, asked=[("Host", "shop"), *UPGRADE], answered=UPGRADE, response_body=b"")
    masked = bytes(byte ^ key for byte, key in zip(b"hello", b"\1\2\3\4\1", strict=True))
    world.websocket(
        one,
        socket,
        [(b"\x81\x85\1\2\3\4" + masked, b"\x82\x03abc")],
        [
            {"from": "client", "opcode": 1, "size": 5, "text": "hello", "truncated": False, "deflated": False},
            {"from": "server", "opcode": 2, "size": 3, "preview_b64": "YWJj", "truncated": False, "deflated": False},
        ],
    )
    for outgoing, way in ((False, "inbound"), (True, "outbound")):
        with world.beneath(two, TLS_RECORD, TLS_RECORD, outgoing=outgoing):
            world.http1(two, [plain(240 + outgoing)], way=way)
            world.records[-1]["mtls"] = True
            world.http1(two, [plain(BESIDE_TLS)], way="inbound" if outgoing else "outbound")
        each = plain(242 + outgoing)
        first_ns = world.now_ns + 3 * STEP_NS
        with world.beneath(two, each.request(), each.response(), outgoing=outgoing) as leg:
            world.http1(two, [each], way=way)
        world.records[-1]["mtls"] = False
        world.tell(two, leg, "node", each, first_ns, world.now_ns - 4 * STEP_NS)
        world.records[-1] |= {"mtls": False, "pod_ip": None, "netns": None}
    for where in world.pods:
        world.http1(where, [plain()])
    world.count()
    return world
