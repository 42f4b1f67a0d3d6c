"""Building this project's image with Docker: what the daemon is sent, and what is said when it fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from docker_server import ARCHIVE, docker_server

from harness.errors import HarnessError, Unsupported
from harness.worlds.cluster import daemon, source

REPOSITORY = Path(__file__).resolve().parents[3]


def files(folder: Path) -> dict[str, bytes]:
    """Path below the folder -> content."""
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with exactly what the builder is sent."""
    folder = tmp_path / "context"
    with docker_server() as docker:
        monkeypatch.setenv("DOCKER_HOST", docker.host)
        daemon.build_image("tapper-harness:dev", tmp_path / "image.tar")
        (query,) = docker.queries
        docker.unpack(folder)
    assert "dockerfile=fixtures%2Fistio%2FContainerfile" in query
    assert "t=tapper-harness%3Adev" in query
    return folder


def make_wheel(project: Path, into: Path) -> Path:
    argv = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(into), "."]
    environ = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}  # else some Pythons keep the build hook's beside it
    done = subprocess.run(argv, cwd=project, env=environ, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = into.glob("*.whl")
    return wheel


def test_what_the_builder_is_sent_is_what_the_project_is_made_of(context: Path, tmp_path: Path) -> None:
    """All that is kept in the two packages and beside them, and nothing else that a developer has lying about."""
    assert (tmp_path / "image.tar").read_bytes() == ARCHIVE
    sent = files(context)
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if listed.returncode == 0:  # a checkout with its history
        kept = [name for name in listed.stdout.splitlines() if (REPOSITORY / name).is_file()]
        packages = {name for name in kept if name.startswith(("tapper/", "harness/", "fixtures/istio/"))}
        assert packages <= set(sent)
        assert not [name for name in sent if name.startswith("tests/")]
    assert not [name for name in sent if re.search(r"__pycache__|\.so$|\.git/|\.venv|compiled\.sources", name)]


def test_a_wheel_can_be_made_of_exactly_that(context: Path, tmp_path: Path) -> None:
    wheel = make_wheel(context, tmp_path / "wheels")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"tapper/cli.py", "harness/cli.py", "harness/checkout/fixtures/istio/tapper/daemonset.yaml"} <= names


def test_from_a_wheel_the_builder_is_sent_the_same(context: Path, tmp_path: Path) -> None:
    """What `pip install` puts into site-packages has the manifests, too, and all that the image is built from."""
    site, again = tmp_path / "site", tmp_path / "again"
    zipfile.ZipFile(make_wheel(context, tmp_path / "wheels")).extractall(site)
    (site / "tapper" / "compiled.cpython-313-x86_64-linux-gnu.so").write_bytes(
        b"of the machine that it is installed on"
    )
    script = "import sys; from pathlib import Path; from harness.worlds.cluster import daemon, source\n"
    script += "daemon.build_image('tapper-harness:dev', Path(sys.argv[1])); print(source.FIXTURES)"
    with docker_server() as docker:
        argv = [sys.executable, "-P", "-B", "-c", script, str(tmp_path / "image.tar")]
        environ = {"PYTHONPATH": str(site), "DOCKER_HOST": docker.host, "PATH": "/usr/bin:/bin"}
        done = subprocess.run(argv, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        docker.unpack(again)
    assert files(again) == files(context)
    fixtures = Path(done.stdout.strip())
    assert fixtures.is_relative_to(site)
    assert files(fixtures) == files(source.FIXTURES)


def test_a_failed_build_shows_the_end_of_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output: list[dict[str, Any]] = [
        *({"stream": f"Step {number}\n"} for number in range(500)),
        {"stream": "\x1b[31mno matching distribution for hatchling\x1b[0m\n"},
        {"error": "the command pip returned a non-zero code: 1", "errorDetail": {"code": 1}},
    ]
    with docker_server(output) as docker:
        monkeypatch.setenv("DOCKER_HOST", docker.host)
        with pytest.raises(Unsupported) as raised:
            daemon.build_image("tapper-harness:dev", tmp_path / "image.tar")
    first, *log = str(raised.value).splitlines()
    assert first.startswith("the image tapper-harness:dev cannot be built: the command pip returned a non-zero code: 1")
    assert "--image-archive" in first
    assert "  Step 499" in log
    assert r"  \x1b[31mno matching distribution for hatchling\x1b[0m" in log
    assert len(log) <= 12


def test_a_daemon_that_cannot_be_reached_or_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    with pytest.raises(Unsupported, match=r"^kind needs Docker, and its daemon cannot be reached: .*DOCKER_HOST"):
        daemon.client().__enter__()
    with docker_server() as server:
        monkeypatch.setenv("DOCKER_HOST", server.host)
        with pytest.raises(HarnessError, match="this daemon knows no /volumes"), daemon.client() as docker:
            docker.volumes.list()
