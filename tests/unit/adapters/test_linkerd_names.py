"""The names that Linkerd's injector gives to its proxy, on records: a process named linkerd2-proxy, packets on lo."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from named_programs import start_named

from harness.adapters.reference import RunningTapper
from harness.mesh import replay
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod

StartTapper = Callable[..., RunningTapper]

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def played(pod: Pod, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode()
    replay.play(pod, replay.conversation(replay.inbound(pod, 8080), [(request, ANSWER)]))


def test_the_pods_name_is_on_its_records_and_a_list_of_targets_knows_better(
    node: Node, tapper: StartTapper, tmp_path: Path
) -> None:
    named, nameless, listed = node.pod("named"), node.pod("nameless"), node.pod("listed")
    start_named(named, "linkerd2-proxy", {"_pod_name": "cart-7d9f", "_pod_ns": "shop", "_pod_nodeName": "n1"})
    start_named(nameless, "linkerd2-proxy", {"_pod_name": "half"})
    start_named(listed, "linkerd2-proxy", {"_pod_name": "claimed", "_pod_ns": "claimed"})
    pods = [{"uid": "1", "namespace": "real", "name": "pay-1", "ips": [listed.ip]}]
    targets = node.run_dir / "targets.json"
    targets.write_text(json.dumps({"generation": 1, "pods": pods}))
    options = ["--discover", "linkerd", "--targets-file", node.inside(targets)]
    running = tapper([named, nameless], *options)
    running.wait_capturing(named, nameless, listed)
    for pod in (named, nameless, listed):
        played(pod, f"/{pod.name}")
    running.wait_targets(["/named", "/nameless", "/listed"])
    running.stop()
    pod_of = {record["target"]: record.get("pod") for record in running.exchanges}
    assert pod_of == {
        "/named": {"namespace": "shop", "name": "cart-7d9f"},
        "/nameless": None,
        "/listed": {"namespace": "real", "name": "pay-1"},
    }
    (opened,) = [
        record
        for record in running.of_type("source")
        if record["state"] == "open" and record["netns"] == named.netns_inode
    ]
    assert opened["pod"] == {"namespace": "shop", "name": "cart-7d9f"}
