"""What was built apart, used together: HTTP/2 with redaction and body limits, recordings with targets that change."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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
    arguments = [
        "tap",
        "--targets-file",
        node.inside(targets),
        "-o",
        "pcapng",
        "--no-redact",
        "-w",
        node.inside(recording),
    ]
    process = node.spawn(Command(tapper_argv(*arguments), env=TAPPER_ENVIRON), name="tapper")
    ask_until(one.ip, "one")
    name(2, two.ip)
    ask_until(two.ip, "two")
    mesh_send(one.ip, "one-afterwards")
    mesh_send(two.ip, "two-afterwards")
    assert process.stop() == 0, process.read_log()
    assert recorded("two-afterwards")
    assert not recorded("one-afterwards")


@pytest.mark.parametrize(
    ("option", "previews"), [("--no-redact", ("LOGIN me hunter2", "OK")), ("--redact=x", ("", ""))]
)
def test_how_unknown_bytes_begin_is_shown_only_without_redaction(
    mesh: Mesh, tapper: StartTapper, option: str, previews: tuple[str, str]
) -> None:
    client, server = mesh.pod("client"), mesh.pod("server", serve=False)
    mesh.inject(client, server)
    running = tapper([client.pod, server.pod], option)
    running.wait_capturing(client.pod, server.pod)
    with server.pod.listen("0.0.0.0", 8080) as listener, client.pod.connect(server.ip, 8080) as outgoing:
        outgoing.sendall(b"LOGIN me hunter2")
        incoming, _ = listener.accept()
        with incoming:
            incoming.sendall(b"OK")
            assert outgoing.recv(10) == b"OK"
    running.wait_for(lambda: len(running.of_type("stream")) == 2, "the bytes on both legs")
    running.stop()
    for record in running.of_type("stream"):
        assert (record["client_preview"], record["server_preview"]) == previews
        assert (record["client_bytes"], record["server_bytes"]) == (16, 2)


def test_notes_meet_no_filter(mesh: Mesh, tapper: StartTapper) -> None:
    """Whoever asks for certain requests is not shown connections that have none; the canary is a request."""
    client, server = mesh.pod("client"), mesh.pod("server")
    mesh.inject(client, server)
    running = tapper([server.pod], "--path", "/hello")
    running.wait_capturing(server.pod)
    with client.pod.connect(server.ip, 8080) as outgoing:
        outgoing.sendall(b"\x16\x03\x01\x00\x05hello")
    client.pod.run(["curl", "-sS", "-o", "/dev/null", f"http://{server.ip}:8080/other"])
    client.pod.run(["curl", "-sS", "-o", "/dev/null", f"http://{server.ip}:8080/hello"])
    running.wait_targets(["/hello"])
    running.stop()
    assert running.seen() == {"/hello": 1}
    assert not running.of_type("stream") + running.of_type("tls")
