"""Node's HTTP clients as the traffic: keep-alive HTTP/1.1, and HTTP/2 with many streams at once."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.adapters.reference import RunningTapper
from harness.mesh.mesh import Mesh
from harness.sandbox.process import Command

StartTapper = Callable[..., RunningTapper]

PROGRAM = str(Path(__file__).parents[1] / "support/node_http.mjs")
COUNT = 20


@pytest.fixture
def interpreter(request: pytest.FixtureRequest) -> str:
    found = shutil.which("node")
    if found is None:
        reason = "node is not installed (Debian: nodejs); script/setup test brings it"
        if request.config.getoption("--harness-require"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return found


@pytest.mark.parametrize(("protocol", "version"), [("h1", "HTTP/1.1"), ("h2", "HTTP/2")])
def test_node(mesh: Mesh, tapper: StartTapper, interpreter: str, protocol: str, version: str) -> None:
    client, server = mesh.pod("client"), mesh.pod("server", serve=protocol == "h1")
    mesh.inject(client, server)
    if protocol == "h2":
        serving = server.pod.spawn(Command([interpreter, PROGRAM, "serve", "8080"]), stdout=subprocess.PIPE)
        assert serving.stdout is not None
        assert serving.stdout.readline() == b"ready\n", serving.read_log()
    running = tapper([client.pod, server.pod])
    running.wait_capturing(client.pod, server.pod)
    targets = [f"/{protocol}/{number}" for number in range(COUNT)]
    client.pod.run(Command([interpreter, PROGRAM, protocol, server.ip, "8080", *targets]), timeout=30)
    for member in (client, server):
        running.wait_targets(targets, pod=member.pod)
    running.stop()
    assert running.seen(client.pod, "outbound") == running.seen(server.pod, "inbound") == dict.fromkeys(targets, 1)
    for record in running.exchanges:
        assert (record["method"], record["status"], record["mtls"]) == ("POST", 200, True)
        assert record["version"] == version
        for message in (record["request"], record["response"]):
            assert base64.b64decode(message["body_b64"]).decode() == record["target"]
    outbound = {record["src"] for record in running.exchanges if record["direction"] == "outbound"}
    assert len(outbound) == 1, "one connection for all"
