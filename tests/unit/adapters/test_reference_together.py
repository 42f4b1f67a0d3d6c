"""What was built apart, used together: HTTP/2 with redaction and body limits, recordings with targets that change."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from harness.adapters.reference import TAPPER_ENVIRON, RunningTapper, tapper_argv
from harness.mesh.mesh import Mesh
from harness.sandbox.node import Node
from harness.sandbox.process import Command
from harness.waiting import wait_until

StartTapper = Callable[..., RunningTapper]

GRPC_SERVER = """
from concurrent import futures
import grpc
handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
server = grpc.server(futures.ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("demo.Echo", {"Say": handler}),))
server.add_insecure_port("0.0.0.0:8080")
server.start()
print("ready", flush=True)
server.wait_for_termination()
"""
GRPC_CLIENT = """
import sys, grpc
with grpc.insecure_channel(sys.argv[1]) as channel:
    metadata = (("authorization", "Bearer hunter2"), ("x-seen", "canary"))
    channel.unary_unary("/demo.Echo/Say")(b"x" * 100, timeout=10, metadata=metadata)
"""


def test_secrets_and_body_limits_in_http2(mesh: Mesh, tapper: StartTapper) -> None:
    client, server = mesh.pod("client"), mesh.pod("server", serve=False)
    mesh.inject(client, server)
    serving = server.pod.spawn(Command([sys.executable, "-c", GRPC_SERVER]), stdout=subprocess.PIPE)
    assert serving.stdout is not None
    assert serving.stdout.readline() == b"ready\n", serving.read_log()
    running = tapper([client.pod, server.pod], "--body-limit", "10")
    running.wait_capturing(client.pod, server.pod)
    client.pod.run(Command([sys.executable, "-c", GRPC_CLIENT, f"{server.ip}:8080"]), timeout=20)
    running.wait_for(lambda: len(running.exchanges) == 2, "the call on both legs")
    running.stop()
    for record in running.exchanges:
        headers = dict(record["request"]["headers"])
        assert headers["authorization"] == "[redacted]"
        assert headers["x-seen"] == "canary"
        assert (record["request"]["body_size"], record["request"]["truncated"]) == (105, True)
        assert len(record["request"]["body_b64"]) == 16
        assert record["grpc"]["status"] == 0
    assert "hunter2" not in json.dumps(running.records)


def test_a_recording_follows_the_targets(node: Node, mesh: Mesh, tmp_path: Path) -> None:
    """What crosses the node's interfaces is recorded while it is a target's, and not a packet longer."""
    caller, one, two = mesh.pod("caller"), mesh.pod("one"), mesh.pod("two")
    targets, recording = node.run_dir / "targets.json", node.run_dir / "recording.pcapng"

    def name(generation: int, address: str) -> None:
        pods = [{"uid": address, "namespace": "default", "name": "pod", "ips": [address]}]
        fresh = targets.with_suffix(".new")
        fresh.write_text(json.dumps({"generation": generation, "pods": pods}))
        fresh.rename(targets)

    def recorded(marker: str) -> bool:
        return recording.exists() and marker.encode() in recording.read_bytes()

    def ask_until(address: str, prefix: str) -> None:
        """Send until something of it is in the file."""
        wait_until(
            lambda: mesh_send(address, f"{prefix}-probe") and recorded(f"{prefix}-probe"), f"{prefix} in the file"
        )

    def mesh_send(address: str, marker: str) -> bool:
        caller.pod.run(["curl", "-sS", "-o", "/dev/null", f"http://{address}:8080/{marker}"])
        return True

    name(1, one.ip)
    arguments = ["tap", "--targets-file", node.inside(targets), "-o", "pcapng", "-w", node.inside(recording)]
    process = node.spawn(Command(tapper_argv(*arguments), env=TAPPER_ENVIRON), name="tapper")
    ask_until(one.ip, "one")
    name(2, two.ip)
    ask_until(two.ip, "two")
    mesh_send(one.ip, "one-afterwards")
    mesh_send(two.ip, "two-afterwards")
    assert process.stop() == 0, process.read_log()
    assert recorded("two-afterwards")
    assert not recorded("one-afterwards")
