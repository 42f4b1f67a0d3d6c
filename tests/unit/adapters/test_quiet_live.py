"""A quiet connection is kept while its pod has the socket, and ends when the pod has it no more. The kernel is asked.

The tapper asks after five minutes of silence. Here it does so after a moment: its two constants are set before it runs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from harness.adapters.reference import TAPPER_ENVIRON
from harness.mesh import delivery, fake_envoy, replay
from harness.sandbox.node import Node
from harness.sandbox.process import Command
from harness.waiting import wait_until

IMPATIENT = """
import sys
from tapper.cli import main
from tapper.run import quiet

quiet.INTERVAL_S, quiet.QUIET_NS = 0.1, 500_000_000
sys.exit(main())
"""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode()


def test_a_connection_ends_when_its_pod_has_no_socket_of_it(node: Node, tmp_path: Path) -> None:
    """Of two requests without an answer one is on a connection that exists, and one was only played as packets."""
    pod = node.pod("server")
    fake_envoy.start(pod)
    output = tmp_path / "out"
    arguments = ["tap", "--istio", "--targets", pod.ip, "-o", "ndjson", "-w", str(output)]
    process = node.spawn(Command([sys.executable, "-c", IMPATIENT, *arguments], env=TAPPER_ENVIRON))

    def told(kind: str) -> list[dict[str, Any]]:
        lines = output.read_text().splitlines() if output.exists() else []
        return [record for record in map(json.loads, lines) if record["type"] == kind]

    wait_until(lambda: any(each["instance_ip"] == pod.ip for each in told("source")), "the pod's source")
    with delivery.inbound(pod) as conversation:
        conversation.client_sends(get("/kept"))
        played = replay.conversation(replay.inbound(pod, delivery.APP_PORT), [(get("/gone"), OK)])
        replay.play(pod, played[:4])  # the handshake and the request
        # The played connection ends in a later round than the one in which both were first quiet for long enough.
        wait_until(lambda: len(told("http")) >= 1, "the end of the connection that the pod does not have")
        conversation.server_sends(OK)
        wait_until(lambda: len(told("http")) >= 2, "the answer on the connection that the pod has")
    assert process.stop() == 0, process.read_log()
    gone, kept = told("http")
    assert (gone["target"], gone["status"], kept["target"], kept["status"]) == ("/gone", None, "/kept", 200)
