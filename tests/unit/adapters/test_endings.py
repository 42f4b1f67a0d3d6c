"""How exchanges end is told live: a reset by either side, and attempts to connect that are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.adapters.reference import RunningTapper
from harness.mesh import delivery, fake_envoy
from harness.mesh.workload import PASSTHROUGH_SOURCE
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod

StartTapper = Callable[..., RunningTapper]

CLOSED_PORT = 9


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode()


def attempt(pod: Pod, source: str, host: str) -> str:
    """Try to connect to a closed port, which has to be refused; returns the client's end."""
    with pod.socket() as client:
        client.bind((source, 0))
        with pytest.raises(ConnectionRefusedError):
            client.connect((host, CLOSED_PORT))
        address, port = client.getsockname()
    return f"{address}:{port}"


def test_resets_and_refused_attempts(node: Node, tapper: StartTapper) -> None:
    server, caller, bystander = node.pod("server"), node.pod("caller"), node.pod("bystander")
    fake_envoy.start(server)
    running = tapper([server])
    running.wait_capturing(server)
    # 1. A reset by each side, and an exchange that is whole.
    for who in ("client", "server"):
        with delivery.inbound(server) as conversation:
            conversation.client_sends(get(f"/{who}"))
            conversation.resets(by_client=who == "client")
    with delivery.inbound(server) as conversation:
        conversation.exchange(get("/whole"), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    # 2. Attempts at the server: of its own proxy, and of another pod. Nobody is told of one between other pods.
    refused = [attempt(server, PASSTHROUGH_SOURCE[4], server.ip), attempt(caller, caller.ip, server.ip)]
    attempt(caller, caller.ip, bystander.ip)
    running.wait_targets(["/client", "/server", "/whole"], pod=server)
    running.wait_for(lambda: len(running.of_type("connection")) >= len(refused), "a record of each refused attempt")
    running.stop()
    ends = {record["target"]: (record["outcome"], record.get("outcome_by")) for record in running.exchanges}
    assert ends == {"/client": ("reset", "client"), "/server": ("reset", "server"), "/whole": ("complete", None)}
    told = {record["src"]: record for record in running.of_type("connection")}
    assert set(told) == set(refused)
    for record in told.values():
        assert (record["outcome"], record["outcome_by"], record["left_out"]) == ("refused", "server", 0)
        assert (record["dst"], record["pod_ip"]) == (f"{server.ip}:{CLOSED_PORT}", server.ip)
    assert {record["direction"] for record in told.values()} == {"inbound", "node"}
