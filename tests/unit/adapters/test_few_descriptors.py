"""The reference with a low limit of open files."""

from __future__ import annotations

import json
import shutil

import pytest

from harness.adapters.reference import TAPPER_ENVIRON, tapper_argv
from harness.mesh import fake_envoy
from harness.sandbox.node import Node
from harness.sandbox.process import Command
from harness.waiting import wait_until

_PODS = 8
_LIMIT = 32


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit is part of util-linux")
def test_what_is_kept_open_leaves_descriptors_for_what_goes_on(node: Node) -> None:
    """Pods that find no descriptor are named, and the targets file is still followed."""
    pods = [node.pod(f"pod{number}") for number in range(_PODS)]
    for pod in pods:
        fake_envoy.start(pod)
    path = node.run_dir / "targets.json"

    def write(generation: int) -> None:
        named = [{"uid": pod.name, "namespace": "shop", "name": pod.name, "ips": [pod.ip]} for pod in pods]
        path.write_text(json.dumps({"generation": generation, "pods": named}))

    write(1)
    argv = tapper_argv("tap", "--istio", "--targets-file", node.inside(path), "-o", "ndjson")
    tapper = node.spawn(Command(["prlimit", f"--nofile={_LIMIT}", *argv], env=TAPPER_ENVIRON))
    wait_until(lambda: '"type":"ack","generation":1' in tapper.read_log(), "the first list", logs=tapper.read_log)
    write(2)
    wait_until(lambda: '"type":"ack","generation":2' in tapper.read_log(), "the second list", logs=tapper.read_log)
    assert "is not captured: cannot open a packet socket: too many open files" in tapper.read_log()
    assert tapper.read_log().count('"state":"open","kind":"pod"') >= 1
