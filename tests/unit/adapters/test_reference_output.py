"""What the reference tapper writes, end to end: real processes, real namespaces, played traffic."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.adapters.reference import RunningTapper
from harness.mesh import fake_envoy, replay
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod

StartTapper = Callable[..., RunningTapper]

SECRET = "s3cr3t-0815"


def ask(path: str, method: str = "GET") -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {SECRET}\r\nX-Token: {SECRET}\r\n"
        f"X-Canary: canary-1\r\n\r\n"
    ).encode()


def answer(status: int = 200) -> bytes:
    return (
        f"HTTP/1.1 {status} X\r\nSet-Cookie: id={SECRET}\r\nX-Canary: canary-2\r\nContent-Length: 5\r\n\r\nhello"
    ).encode()


def play(pod: Pod, *exchanges: tuple[bytes, bytes]) -> None:
    replay.play(pod, replay.conversation(replay.inbound(pod, 8080), list(exchanges)))


@pytest.fixture
def pod(node: Node) -> Pod:
    """A pod with a fake Envoy in it."""
    pod = node.pod("server")
    fake_envoy.start(pod)
    return pod


def test_secrets_do_not_come_out(pod: Pod, tapper: StartTapper) -> None:
    """The canary is beside them; without redaction they are there, and the tapper says so."""
    hiding, showing = tapper([pod], "--redact", "x-token"), tapper([pod], "--no-redact")
    for running in (hiding, showing):
        running.wait_capturing(pod)
    play(pod, (ask("/a"), answer()))
    for running in (hiding, showing):
        running.wait_targets(["/a"])
        running.stop()
    assert "canary-1" in str(hiding.records)
    assert "canary-2" in str(hiding.records)
    assert SECRET not in str(hiding.records)
    assert str(hiding.records).count("[redacted]") == 3
    assert str(showing.records).count(SECRET) == 3
    assert "--no-redact: Authorization, Cookie, Set-Cookie, Proxy-Authorization come out" in showing.read_log()
    assert "redact" not in hiding.read_log()


def test_filters_and_the_body_limit(pod: Pod, tapper: StartTapper) -> None:
    """The last exchange passes the filters, so whatever was to come before it has come."""
    running = tapper([pod], "--path", "/orders", "--status", "5xx", "--body-limit", "3")
    running.wait_capturing(pod)
    play(
        pod,
        (ask("/cart"), answer(500)),
        (ask("/orders/1"), answer(200)),
        (ask("/orders/2"), answer(503)),
    )
    running.wait_targets(["/orders/2"])
    running.stop()
    assert running.seen() == {"/orders/2": 1}
    (record,) = running.exchanges
    assert (record["response"]["body_b64"], record["response"]["body_size"]) == ("aGVs", 5)
    assert record["response"]["truncated"]
    assert (running.records[-1]["exchanges"], running.records[-1]["filtered"]) == (1, 2)
