"""The requests that were really sent in a trial: the kit's side of every comparison.

Requests carry a nonce that occurs nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.mesh import delivery, traffic
from harness.mesh.app import NONCE_HEADER
from harness.mesh.delivery import APP_PORT, LoopbackConnection
from harness.mesh.workload import Delivery
from harness.sandbox.frames import endpoint
from harness.sandbox.pod import Pod

INBOUND = "inbound"
OUTBOUND = "outbound"

Headers = Sequence[tuple[str, str]]


class NamedPod(Protocol):
    """A pod of the sandbox or of a cluster, as far as a report can name it."""

    @property
    def name(self) -> str: ...

    @property
    def ipv4(self) -> object:
        """As text it is the address."""

    @property
    def ipv6(self) -> object: ...


def in_words(place: NamedPod) -> str:
    """A pod in a sentence: `pod "server" (10.244.0.2)`."""
    return f'pod "{place.name}" ({place.ipv4})'


@dataclass(frozen=True, slots=True)
class ExpectedLeg:
    """A leg of an exchange: on one pod's `lo`, on its way in or out."""

    pod: NamedPod
    direction: str

    def __str__(self) -> str:
        return f"{self.direction} at {in_words(self.pod)}"


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that was answered. A tapper that captures in the pods of its legs has to report it once for each."""

    nonce: str
    method: str
    target: str
    status: int
    legs: tuple[ExpectedLeg, ...]
    src: str | None = None
    """The client's address, if the kit knows it: `127.0.0.6:40001`."""
    dst: str | None = None
    request_body: bytes = b""
    response_body: bytes = b""


def new_nonce() -> str:
    """`nonce-` and 128 random bits in hexadecimal."""
    return traffic.new_nonce()


def request(
    nonce: str, *, method: str = "GET", target: str | None = None, headers: Headers = (), body: bytes = b""
) -> bytes:
    """An HTTP/1.1 request whose target ends in the nonce, unless another target is given."""
    fields = [("Host", "shop.default.svc"), (NONCE_HEADER, nonce), *headers]
    if body:
        fields.append(("Content-Length", str(len(body))))
    return _message(f"{method} {target or target_of(nonce)} HTTP/1.1", fields, body)


def response(nonce: str, status: int = 200, *, headers: Headers = (), body: bytes = b"") -> bytes:
    """The answer, with Content-Length; the nonce is in a header."""
    fields = [(NONCE_HEADER, nonce), ("Content-Length", str(len(body))), *headers]
    return _message(f"HTTP/1.1 {status} Whatever", fields, body)


def target_of(nonce: str) -> str:
    return f"/orders/{nonce}"


def deliver(
    pod: Pod,
    count: int = 1,
    *,
    port: int = APP_PORT,
    style: Delivery = Delivery.PASSTHROUGH,
    ipv6: bool = False,
    headers: Headers = (),
    body: bytes = b"ok\n",
    address: str | None = None,
) -> list[Sent]:
    """Send requests as a sidecar hands them to its application, one after the other on one connection."""
    with delivery.inbound(pod, port, delivery=style, ipv6=ipv6, address=address) as conversation:
        return [speak(conversation, ExpectedLeg(pod, INBOUND), headers=headers, body=body) for _ in range(count)]


def ask(pod: Pod, destination: tuple[str, int], count: int = 1, *, body: bytes = b"ok\n") -> list[Sent]:
    """Send requests as an application hands them to its sidecar, meant for `destination`."""
    with delivery.outbound(pod, destination) as conversation:
        return [speak(conversation, ExpectedLeg(pod, OUTBOUND), body=body) for _ in range(count)]


def speak(
    conversation: LoopbackConnection,
    leg: ExpectedLeg,
    *,
    method: str = "GET",
    status: int = 200,
    headers: Headers = (),
    request_body: bytes = b"",
    body: bytes = b"ok\n",
) -> Sent:
    """Send one plain exchange on an open connection."""
    nonce = new_nonce()
    conversation.exchange(
        request(nonce, method=method, headers=headers, body=request_body), response(nonce, status, body=body)
    )
    return sent(conversation, leg, nonce, method=method, status=status, request_body=request_body, body=body)


def sent(
    conversation: LoopbackConnection,
    leg: ExpectedLeg,
    nonce: str,
    *,
    method: str = "GET",
    status: int = 200,
    request_body: bytes = b"",
    body: bytes = b"",
) -> Sent:
    """The record of an exchange whose bytes the case has written itself."""
    src, dst = endpoint(*conversation.src), endpoint(*conversation.dst)
    return Sent(nonce, method, target_of(nonce), status, (leg,), src, dst, request_body, body)


def nonces_in(target: str) -> list[str]:
    """The kit's markers in a request target."""
    parts = target.replace("?", "/").replace("=", "/").replace("&", "/").split("/")
    return [part for part in parts if part.startswith("nonce-")]


def through_mesh(exchanges: Iterable[traffic.AnsweredRequest], *legs: ExpectedLeg) -> list[Sent]:
    """Requests of `harness.mesh.traffic.send`, with the legs on which a tapper can see them."""
    return [Sent(each.nonce, each.method, each.target, each.status, legs) for each in exchanges]


def _message(start: str, fields: Headers, body: bytes) -> bytes:
    lines = [start, *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
