"""A node that rewrites both ends of a connection, as kube-proxy does: each packet crosses the node under two names."""

from __future__ import annotations

from collections.abc import Callable

from harness.adapters.reference import RunningTapper
from harness.mesh import delivery
from harness.sandbox.node import Node

StartTapper = Callable[..., RunningTapper]

SERVICE = ("10.96.77.10", 80)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode()


def test_a_masqueraded_request_is_reported_once(node: Node, tapper: StartTapper) -> None:
    client, server = node.pod("client"), node.pod("server")
    to_server = ["-p", "tcp", "-d", SERVICE[0], "--dport", str(SERVICE[1])]
    translated = ["-j", "DNAT", "--to-destination", f"{server.ip}:{delivery.APP_PORT}"]
    node.run(["iptables", "-t", "nat", "-A", "PREROUTING", *to_server, *translated])
    node.run(["iptables", "-t", "nat", "-A", "POSTROUTING", "-p", "tcp", "-d", server.ip, "-j", "MASQUERADE"])
    running = tapper([client, server], istio=False)
    running.wait_capturing()
    targets = [f"/masqueraded/{number}" for number in range(5)]
    with delivery.across(client, server, dialled=SERVICE) as conversation:
        assert conversation.src[0] == client.ip
        assert conversation.accepted_from[0] != client.ip, "the canary: the node has put its own address there"
        for target in targets:
            conversation.exchange(get(target), OK)
    running.wait_targets(targets)
    running.stop()
    assert running.seen() == dict.fromkeys(targets, 1)
    for record in running.exchanges:
        assert record["src"].startswith(f"{client.ip}:"), "the end that no rule has rewritten"
        assert record["dst"] == f"{SERVICE[0]}:{SERVICE[1]}"
