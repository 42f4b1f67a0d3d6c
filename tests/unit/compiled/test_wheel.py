"""A wheel with the compiled form: it is built and taken, and held to the same tests; else the plain form is taken."""

from __future__ import annotations

import fcntl
import os
import runpy
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_BUILD_S = 900  # half a minute where nothing else runs
_TESTS_S = 900


def run(argv: Sequence[str], environ: dict[str, str], limit_s: int, cwd: Path = ROOT) -> str:
    """What it wrote to both outputs. It must succeed."""
    done = subprocess.run(
        argv,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | environ,  # others use the folder, or copy it
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def make_wheel(into: Path, **environ: str) -> tuple[Path, str]:
    """The wheel of this checkout, and what pip said."""
    pip = [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--no-build-isolation", "-w", str(into), str(ROOT)]
    said = run(pip, environ, _BUILD_S)
    (wheel,) = into.glob("*.whl")
    return wheel, said


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pip would put into site-packages. Built once for all processes that run these tests."""
    ours = tmp_path_factory.getbasetemp()
    folder = (ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours) / "compiled-site"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            wheel, _ = make_wheel(tmp_path_factory.mktemp("wheel"), TAPPER_COMPILE="1")
            assert "-any.whl" not in wheel.name, "it is for one kind of machine"
            fresh = tmp_path_factory.mktemp("site")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(fresh)
            fresh.rename(folder)
    return folder


def version(folder: Path, **environ: str) -> str:
    argv = [sys.executable, "-P", "-m", "tapper", "--version"]
    return run(argv, {"PYTHONPATH": str(folder), **environ}, 60, folder).rstrip("\n").partition(", ")[2]


def test_it_is_taken_and_can_be_declined(unpacked: Path) -> None:
    assert version(unpacked) == "compiled"
    assert version(unpacked, TAPPER_PURE="1") == "pure Python (TAPPER_PURE is set)"


def test_its_functions_are_nobody_elses(unpacked: Path) -> None:
    """Then they call each other straight."""
    (group,) = unpacked.glob("tapper__mypyc*.so")
    defined = run(["nm", "--dynamic", "--defined-only", str(group)], {}, 60).splitlines()
    assert [line.split()[-1] for line in defined] == ["PyInit_tapper__mypyc"]


def test_what_cannot_be_loaded_is_passed_over(unpacked: Path, tmp_path: Path) -> None:
    broken = tmp_path / "site"
    shutil.copytree(unpacked, broken)
    (group,) = broken.glob("tapper__mypyc*.so")
    group.write_bytes(b"\x7fELF of another machine")
    assert version(broken).startswith("pure Python (its compiled form cannot be loaded: ")


def test_it_is_not_taken_for_sources_that_changed(unpacked: Path, tmp_path: Path) -> None:
    """As in a checkout, where script/compile leaves a record."""
    hook = runpy.run_path(str(ROOT / "hatch_build.py"))
    edited = tmp_path / "site"
    shutil.copytree(unpacked, edited)
    shutil.copy2(ROOT / "hatch_build.py", edited)
    (edited / "tapper" / "compiled.sources").write_text(hook["record"](edited))
    assert version(edited) == "compiled"
    with (edited / "tapper" / "memo.py").open("a") as source:
        source.write("# changed\n")
    assert version(edited) == "pure Python (tapper/memo.py has changed since it was compiled)"


def test_both_forms_pass_the_same_tests(unpacked: Path) -> None:
    argv = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", "tests/unit/tapper"]
    environ = {"PYTHONPATH": str(unpacked), "TAPPER_FORM_UNDER_TEST": "compiled", "PYTEST_ADDOPTS": ""}
    said = run(argv, environ, _TESTS_S)
    assert " passed" in said


def test_without_a_compiler_there_is_a_plain_wheel_and_a_word(tmp_path: Path) -> None:
    wheel, said = make_wheel(tmp_path, TAPPER_COMPILE="1", CC="/nowhere/cc")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "there is no C compiler (/nowhere/cc)" in said


def test_unless_it_is_asked_for_nothing_is_compiled(tmp_path: Path) -> None:
    wheel, _ = make_wheel(tmp_path, TAPPER_COMPILE="", CC="/nowhere/cc")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".so") or "compiled.sources" in name]
