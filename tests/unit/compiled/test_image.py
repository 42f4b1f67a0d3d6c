"""The image of fixtures/istio/Containerfile, as far as it can be made without Docker (`image_python`), run with the
rights that fixtures/istio/tapper/daemonset.yaml gives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from image_python import image_python
from manifests import FOLDER, container, of_kind, render
from rights import as_root_with

from harness.mesh import fake_envoy
from harness.sandbox.node import Node
from harness.sandbox.process import Command
from harness.waiting import wait_until

RIGHTS = container(of_kind(render(FOLDER / "tapper"), "DaemonSet"))["securityContext"]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of the image's Python."""
    return image_python(tmp_path_factory) / "bin"


def confined(argv: list[str], capabilities: frozenset[str]) -> Command:
    """Without PYTHONPATH, which would lead to this checkout."""
    return as_root_with(capabilities, ["/usr/bin/env", "--unset=PYTHONPATH", *argv])


def test_its_tapper_is_compiled_and_runs_with_the_manifests_rights(python: Path, node: Node) -> None:
    """Root with four capabilities and no more, on file systems that are read-only."""
    granted = frozenset(RIGHTS["capabilities"]["add"])
    assert len(granted) == 4
    assert RIGHTS["readOnlyRootFilesystem"] is True
    tapper = str(python / "tapper")
    assert re.fullmatch(r"tapper \S+, compiled\n", node.run(confined([tapper, "--version"], granted)))

    pod = node.pod("server")
    fake_envoy.start(pod)
    argv = [tapper, "tap", "--istio", "--filter-authorities", pod.ip, "--output", "ndjson"]
    running = node.spawn(confined(argv, granted))
    wait_until(lambda: f'"netns":{pod.netns_inode}' in running.read_log(), "its capture", logs=running.read_log)
    assert running.stop() == 0


def test_its_sample_application_and_client_start(python: Path, node: Node) -> None:
    """As the manifests start them: by `python`, and with nothing of this checkout."""
    for module in ("harness.mesh.app", "harness.mesh.client"):
        where = f"import {module} as m; print(m.__file__)"
        said = node.run(confined([str(python / "python"), "-P", "-c", where], frozenset()))
        assert str(python.parent) in said
