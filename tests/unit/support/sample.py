"""The sample application and client of fixtures/istio/sample, as their manifests start them, but in a sandbox."""

from __future__ import annotations

import json
import sys
from typing import Any

from manifests import FOLDER, container, render
from rights import as_nobody, as_root_with

from harness.mesh.traffic import PodConnection
from harness.sandbox.pod import Pod
from harness.sandbox.process import Process

SAMPLE = {each["metadata"]["name"]: each for each in render(FOLDER / "sample") if each["kind"] == "Deployment"}


def start(pod: Pod, name: str, **changed: str) -> Process:
    """What the manifest's container runs, with its rights; `changed` are other values of options."""
    specified = container(SAMPLE[name])
    rights = specified["securityContext"]
    assert (rights["capabilities"], rights["runAsUser"]) == ({"drop": ["ALL"]}, 65534)
    assert rights["readOnlyRootFilesystem"] is True
    program, *arguments = specified["command"]
    assert program == "python"
    argv = [sys.executable, *arguments]
    for option, value in changed.items():
        argv[argv.index(f"--{option}") + 1] = value
    # where the node has no users but root, that user's capabilities at least are gone
    return pod.spawn(as_root_with(frozenset(), argv) if pod.node.single_id else as_nobody(argv), name=name)


def answers(pod: Pod, port: int) -> bool:
    connection = PodConnection(pod, "127.0.0.1", port)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def lines(process: Process) -> list[dict[str, Any]]:
    """What it has written, an object a line. Without one that is still being written."""
    return [json.loads(line) for line in process.read_log().splitlines(keepends=True) if line.endswith("\n")]
