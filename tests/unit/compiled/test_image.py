"""The image of fixtures/istio/Containerfile, as far as it can be made without Docker: its own steps, of its own files.

A daemon that builds nothing is sent what a builder would be sent; in an empty folder with that, the RUN lines are
carried out, with a fresh virtual environment for the image's Python. What comes of it is run with the rights that
fixtures/istio/tapper/daemonset.yaml gives.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from docker_server import docker_server
from manifests import FOLDER, container, of_kind, render
from rights import as_root_with

from harness.mesh import fake_envoy
from harness.sandbox.node import Node
from harness.sandbox.process import Command
from harness.waiting import wait_until
from harness.worlds.cluster import daemon

_STEP_S = 1800  # a minute and a half for the longest, where nothing else runs
RIGHTS = container(of_kind(render(FOLDER / "tapper"), "DaemonSet"))["securityContext"]


def steps() -> tuple[list[str], list[str]]:
    """The RUN lines of the build stage and of the image."""
    build, image = (FOLDER / "Containerfile").read_text().split("\nFROM ")[1:]
    assert re.findall(r"^COPY (.+)$", build, re.MULTILINE) == [". ."], "all that the builder is sent, and nothing else"
    return re.findall(r"^RUN (.+)$", build, re.MULTILINE), re.findall(r"^RUN (.+)$", image, re.MULTILINE)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of the image's Python."""
    if shutil.which("cc") is None and not os.environ.get("CI"):
        pytest.skip("there is no C compiler (cc), which the build stage would install")
    folder = tmp_path_factory.mktemp("image")
    context, wheels, installed = folder / "src", folder / "wheels", folder / "python"
    with docker_server() as docker, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", docker.host)
        daemon.build_image("tapper-harness:dev", folder / "image.tar")
        docker.unpack(context)
    run([sys.executable, "-m", "venv", str(installed)], folder, os.environ["PATH"])
    path = f"{installed / 'bin'}:{os.environ['PATH']}"
    build, image = steps()
    for step in build:
        run(["sh", "-c", step.replace("/wheels", str(wheels))], context, path)
    empty = folder / "empty"
    empty.mkdir()
    for step in image:
        run(["sh", "-c", step.replace("/wheels", str(wheels))], empty, path)
    return installed / "bin"


def run(argv: list[str], folder: Path, path: str) -> None:
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TAPPER_PURE")}
    environ["PATH"] = path
    done = subprocess.run(
        argv, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_STEP_S, check=False
    )
    assert done.returncode == 0, f"{argv[-1]}:\n{done.stdout.decode(errors='replace')[-6000:]}"


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
