"""Packets of a captured pod that its own TCP does not take, and that must not deceive the tapper."""

from __future__ import annotations

from collections.abc import Callable

from harness.adapters.reference import RunningTapper
from harness.mesh import fake_envoy, replay
from harness.sandbox.node import Node

StartTapper = Callable[..., RunningTapper]

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def request(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: shop\r\n\r\n".encode()


def test_a_segment_with_a_wrong_checksum_does_not_take_the_place_of_the_right_one(
    node: Node, tapper: StartTapper
) -> None:
    """The receiver drops the first one, so the second one is what was asked."""
    server = node.pod("server")
    fake_envoy.start(server)
    running = tapper([server])
    running.wait_capturing(server)
    leg = replay.inbound(server, 8080)
    frames = replay.conversation(leg, [(request("/true"), ANSWER)])
    forged = replay.conversation(leg, [(request("/fake"), ANSWER)])
    wrong = forged[3][:-20] + b"x" + forged[3][-19:]
    replay.play(server, [*frames[:3], wrong, *frames[3:]])
    running.wait_targets(["/true"], pod=server)
    running.stop()
    assert [record["target"] for record in running.exchanges] == ["/true"]
    (counted,) = [record for record in running.of_type("stat") if record.get("netns") == server.netns_inode]
    assert counted["bad_checksum"] == 1
