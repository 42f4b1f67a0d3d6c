"""A cluster that cannot be made: one sentence and one end of the run, from the scenarios and from `check` alike.

kind, istioctl and Docker's daemon are programs that fail at one step.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from docker_server import docker_server

REPOSITORY = Path(__file__).resolve().parents[3]
NO_DAEMON = "tcp://127.0.0.1:9"
KIND = """
case "$1 $2" in
"get clusters" | "delete cluster" | "load image-archive") ;;
"create cluster") {create} ;;
*) echo "kind does not know $*" >&2; exit 1 ;;
esac
"""

RunIt = Callable[[Path, list[str], str], tuple[int, str]]
"""Folder, options, DOCKER_HOST -> exit code, and all that was said."""


def program(folder: Path, name: str, script: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}")
    path.chmod(0o755)
    return str(path)


def options(folder: Path, *, create: str = "exit 0", istioctl: str = "exit 0", archive: bool = True) -> list[str]:
    """For both commands."""
    (folder / "image.tar").touch()
    found = ["--kind", "--kind-bin", program(folder, "kind", KIND.format(create=create))]
    found += ["--istioctl", program(folder, "istioctl", istioctl)]
    return [*found, "--image-archive", str(folder / "image.tar")] if archive else found


def run_scenarios(folder: Path, given: list[str], docker: str) -> tuple[int, str]:
    argv = ["pytest", "-p", "no:cacheprovider", "-c", str(REPOSITORY / "pyproject.toml"), str(REPOSITORY / "tests/e2e")]
    return run(folder, [*argv, *given], docker)


def run_check(folder: Path, given: list[str], docker: str) -> tuple[int, str]:
    return run(folder, ["harness.cli", "check", "--adapter", "reference", "--profile", "TAP-MESH", *given], docker)


def run(folder: Path, argv: list[str], docker: str) -> tuple[int, str]:
    """Exit code, and all that was said."""
    environ = os.environ | {"PYTHONPATH": str(REPOSITORY), "DOCKER_HOST": docker, "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        [sys.executable, "-m", *argv],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("run_it", [run_scenarios, run_check])
@pytest.mark.parametrize(
    ("create", "istioctl", "code", "sentences"),
    [
        ("echo no [room] >&2; exit 1", "exit 0", 4, ["kind could not create the cluster tapper-harness", "no [room]"]),
        ("exit 0", "echo no [luck] >&2; exit 1", 4, ["install --skip-confirmation --set profile=minimal", "no [luck]"]),
        ("exit 0", "exit 0", 3, ["no cluster can be asked: "]),
    ],
    ids=["kind create", "istioctl install", "no kubeconfig"],
)
def test_a_step_that_fails(
    run_it: RunIt, create: str, istioctl: str, code: int, sentences: list[str], tmp_path: Path
) -> None:
    with docker_server() as docker:
        ended, said = run_it(tmp_path, options(tmp_path, create=create, istioctl=istioctl), docker.host)
    assert [said.count(each) for each in sentences] == [1] * len(sentences), said
    assert "Traceback" not in said
    assert ended == code, said


@pytest.mark.parametrize("run_it", [run_scenarios, run_check])
def test_no_daemon(run_it: RunIt, tmp_path: Path) -> None:
    """Nothing else is begun."""
    ended, said = run_it(tmp_path, options(tmp_path, create="echo creating; exit 1"), NO_DAEMON)
    assert said.count("kind needs Docker, and its daemon cannot be reached") == 1, said
    assert "creating" not in said
    assert "Traceback" not in said
    assert ended == 3, said


@pytest.mark.parametrize("run_it", [run_scenarios, run_check])
def test_an_image_that_cannot_be_built(run_it: RunIt, tmp_path: Path) -> None:
    with docker_server([{"stream": "no such package: hatchling\n"}, {"error": "pip returned 1"}]) as docker:
        ended, said = run_it(tmp_path, options(tmp_path, archive=False), docker.host)
    assert said.count("the image tapper-harness:dev cannot be built: pip returned 1") == 1, said
    assert "  no such package: hatchling" in said
    assert "Traceback" not in said
    assert ended == 3, said


def test_several_processes(tmp_path: Path) -> None:
    """Each would make a cluster of its own; so it is said once, and not for each scenario."""
    ended, said = run_scenarios(tmp_path, [*options(tmp_path), "-n", "2"], NO_DAEMON)
    assert said.count("run its scenarios without -n") == 1, said
    assert "Traceback" not in said
    assert ended == pytest.ExitCode.USAGE_ERROR, said
