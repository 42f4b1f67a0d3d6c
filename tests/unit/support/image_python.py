"""The Python of the image that fixtures/istio/Containerfile describes, made without Docker: its own steps, of its own
files. Compiling takes a minute and a half, so it is made once for all processes that run tests."""

from __future__ import annotations

import fcntl
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from docker_server import docker_server
from manifests import FOLDER

from harness.worlds.cluster import daemon

_STEP_S = 1800
_ROOT = Path(__file__).parents[3]


def steps() -> tuple[list[str], list[str]]:
    """The RUN lines of the build stage and of the image."""
    build, image = (FOLDER / "Containerfile").read_text().split("\nFROM ")[1:]
    assert re.findall(r"^COPY (.+)$", build, re.MULTILINE) == [". ."], "all that the builder is sent, and nothing else"
    return re.findall(r"^RUN (.+)$", build, re.MULTILINE), re.findall(r"^RUN (.+)$", image, re.MULTILINE)


def image_python(factory: pytest.TempPathFactory) -> Path:
    """The image's Python: a virtual environment with the compiled wheel, which pip has built in an environment of its
    own and installed, as it does for a user. Skips where nothing can be compiled; in CI that is a failure."""
    lack = runpy.run_path(str(_ROOT / "hatch_build.py"))["lacking"]()
    if lack is not None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"nothing can be compiled here: {lack}")
    ours = factory.getbasetemp()
    folder = (ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours) / "image"
    made = folder / "made"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a session that was ended
            _make(folder)
            made.touch()
    return folder / "python"


def _make(folder: Path) -> None:
    context, wheels, installed, empty = (folder / name for name in ("src", "wheels", "python", "empty"))
    empty.mkdir(parents=True)
    # 1. The files that a builder is sent.
    with docker_server() as docker, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", docker.host)
        daemon.build_image("tapper-harness:dev", folder / "image.tar")
        docker.unpack(context)
    # 2. The build stage, then the image, each with nothing else in its folder.
    _run([sys.executable, "-m", "venv", str(installed)], folder, os.environ["PATH"])
    path = f"{installed / 'bin'}:{os.environ['PATH']}"
    for where, lines in zip((context, empty), steps(), strict=True):
        for line in lines:
            _run(["sh", "-c", line.replace("/wheels", str(wheels))], where, path)


def _run(argv: list[str], folder: Path, path: str) -> None:
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TAPPER_PURE")}
    environ |= {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}  # several processes use what is made, or copy it
    environ["TAPPER_COMPILE_LEVEL"] = "0"  # the same code in a quarter of the time
    done = subprocess.run(
        argv, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_STEP_S, check=False
    )
    assert done.returncode == 0, f"{argv[-1]}:\n{done.stdout.decode(errors='replace')[-6000:]}"
