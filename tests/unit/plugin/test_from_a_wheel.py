"""The plugin as an ordinary install puts it there: from a wheel, in a virtual environment that knows no checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_LIMIT_S = 600


def run(argv: Sequence[str | Path], cwd: Path) -> str:
    """What it wrote to both outputs. It must succeed."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "PYTHON"))}
    done = subprocess.run(
        argv,
        env=environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment with the wheel, and with the other packages of the one we run in."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip"]
    run([*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ROOT], folder)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    run([*pip, "--python", python, "install", "-q", "--no-deps", "--no-index", wheel], folder)
    # .pth files name folders to search; those in the folders that are named here are not read, so not the checkout's
    (site,) = (folder / "venv").glob("lib/python3*/site-packages")
    (site / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    return python


def test_all_of_it_is_in_the_wheel(python: Path, tmp_path: Path) -> None:
    shown = run(
        [python, "-c", "import harness, tapper_harness; print(harness.__file__, tapper_harness.__file__)"], tmp_path
    )
    assert all(Path(file).is_relative_to(python.parents[1]) for file in shown.split())


def test_other_projects_can_live_with_it(python: Path) -> None:
    """Those tests of test_in_other_projects.py that are about names, with that Python."""
    argv: list[str | Path] = [
        python,
        "-P",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-n",
        "2",
        "-k",
        "its_own or short_names",
    ]
    assert " passed" in run([*argv, "tests/unit/plugin/test_in_other_projects.py"], ROOT)


def test_the_cases_can_be_collected_and_run(python: Path, tmp_path: Path) -> None:
    argv: list[str | Path] = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--pyargs", "harness.conformance"]
    assert "1 passed" in run([*argv, "--harness-adapter", "reference", "-k", "CAP-01"], tmp_path)
