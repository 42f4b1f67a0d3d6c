"""The compiled form, built and installed by pip as for a user: it is taken, and held to the same tests. The plain form
is taken where the compiled one was not asked for, or cannot be used."""

from __future__ import annotations

import ast
import os
import runpy
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from image_python import image_python

ROOT = Path(__file__).parents[3]
TESTS = ROOT / "tests" / "unit" / "tapper"
_BUILD_S = 1800  # half a minute where nothing else runs
_TESTS_S = 900
_ENOUGH = shutil.ignore_patterns("pip*", "kubernetes*", "__pycache__")


def attempt(argv: Sequence[str], environ: dict[str, str], limit_s: int, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run it to its end; `stdout` has what it wrote to both outputs."""
    return subprocess.run(
        argv,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | environ,  # others use the folder, or copy it
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit_s,
        check=False,
    )


def run(argv: Sequence[str], environ: dict[str, str], limit_s: int, cwd: Path = ROOT) -> str:
    """What it wrote to both outputs. It must succeed."""
    done = attempt(argv, environ, limit_s, cwd)
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def make_wheel(into: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Have pip make a wheel of this checkout, with the build requirements that are installed here."""
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(into), str(ROOT)]
    return attempt(pip, environ, _BUILD_S, ROOT)


@pytest.fixture(scope="module")
def hook() -> dict[str, Any]:
    """The names of hatch_build.py, which is no module of a package."""
    return runpy.run_path(str(ROOT / "hatch_build.py"))


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pip has put into site-packages, where `TAPPER_COMPILE=1 pip wheel .` and `pip install` made and took it."""
    (site,) = image_python(tmp_path_factory).glob("lib/python*/site-packages")
    return site


def imported(path: Path) -> set[str]:
    """The modules that a file imports; with `from`, also each imported name behind its module's."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def version(folder: Path, **environ: str) -> str:
    argv = [sys.executable, "-P", "-m", "tapper", "--version"]
    said = run(argv, {"PYTHONPATH": str(folder), **environ}, 60, folder)
    return " ".join(said.split()).partition(", ")[2]  # argparse wraps what is wider than the terminal


def test_it_is_taken_and_can_be_declined(unpacked: Path) -> None:
    assert version(unpacked) == "compiled"
    assert version(unpacked, TAPPER_PURE="1") == "pure Python (TAPPER_PURE is set)"


def test_it_is_for_one_kind_of_machine(unpacked: Path) -> None:
    (record,) = unpacked.glob("tapper_harness-*.dist-info/WHEEL")
    assert "Root-Is-Purelib: false" in record.read_text()
    assert "-any\n" not in record.read_text()


def test_its_functions_are_nobody_elses(unpacked: Path) -> None:
    """Then they call each other straight."""
    (group,) = unpacked.glob("tapper__mypyc*.so")
    defined = run(["nm", "--dynamic", "--defined-only", str(group)], {}, 60).splitlines()
    assert [line.split()[-1] for line in defined] == ["PyInit_tapper__mypyc"]


def test_what_cannot_be_loaded_is_passed_over(unpacked: Path, tmp_path: Path) -> None:
    broken = tmp_path / "site"
    shutil.copytree(unpacked, broken, ignore=_ENOUGH)
    (group,) = broken.glob("tapper__mypyc*.so")
    group.write_bytes(b"\x7fELF of another machine")
    assert version(broken).startswith("pure Python (its compiled form cannot be loaded: ")


def test_it_is_not_taken_for_sources_that_changed(unpacked: Path, hook: dict[str, Any], tmp_path: Path) -> None:
    """As in a checkout, where script/compile leaves a record."""
    edited = tmp_path / "site"
    shutil.copytree(unpacked, edited, ignore=_ENOUGH)
    shutil.copy2(ROOT / "hatch_build.py", edited)
    (edited / "tapper" / "compiled.sources").write_text(hook["record"](edited))
    assert version(edited) == "compiled"
    with (edited / "tapper" / "protocols" / "heads.py").open("a") as source:
        source.write("# changed\n")
    assert version(edited) == "pure Python (tapper/protocols/heads.py has changed since it was compiled)"


def test_both_forms_pass_the_tests_of_the_compiled_modules(unpacked: Path, hook: dict[str, Any]) -> None:
    """All other modules are plain in both forms."""
    compiled = {path.removesuffix(".py").replace("/", ".") for path in hook["sources"]()}
    tests = [str(path) for path in sorted(TESTS.glob("test_*.py")) if imported(path) & compiled]
    assert len(tests) > 40
    argv = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", *tests]
    environ = {"PYTHONPATH": str(unpacked), "TAPPER_FORM_UNDER_TEST": "compiled", "PYTEST_ADDOPTS": ""}
    said = run(argv, environ, _TESTS_S)
    assert " passed" in said


def test_without_a_compiler_the_build_fails_and_says_why(tmp_path: Path) -> None:
    """Who asked for the compiled form is not given another one."""
    done = make_wheel(tmp_path, TAPPER_COMPILE="1", CC="/nowhere/cc")
    assert done.returncode != 0, done.stdout
    reason = (
        "TAPPER_COMPILE is set, so the tapper is to be compiled, but there is no C compiler (/nowhere/cc): install one"
    )
    assert reason in done.stdout
    assert "Traceback" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_compiler_that_fails_ends_the_build_with_its_last_lines(
    hook: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(argv: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(argv, 1, "", f"fatal error: no such thing\ncommand {'-x ' * 10_000}failed\n")

    monkeypatch.setattr(subprocess, "run", refuses)
    monkeypatch.setenv("CC", sys.executable)  # for the look whether there is any
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    (tmp_path / "Python.h").touch()
    said = "the compiler failed, and its last lines were:\nfatal error: no such thing\ncommand -x -x"
    with pytest.raises(hook["CannotCompile"], match=said) as raised:
        hook["build"](tmp_path)
    assert len(str(raised.value)) < 1000


def test_a_cache_serves_only_the_inputs_that_it_was_made_of(
    hook: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler, compilations = "cc 1", []

    def compiles(argv: Sequence[str], cwd: Path | None = None, **_: object) -> subprocess.CompletedProcess[str]:
        if cwd is not None:
            compilations.append(argv)
            Path(cwd, "tapper", "module.so").write_text(f"made by {compiler}")
        return subprocess.CompletedProcess(argv, 0, compiler, "")

    def build() -> tuple[int, str]:
        into = tmp_path / "into"
        assert hook["build"](into) == [Path("tapper/module.so")]
        return len(compilations), (into / "tapper" / "module.so").read_text()

    monkeypatch.setattr(subprocess, "run", compiles)
    monkeypatch.setenv("CC", sys.executable)  # for the look whether there is any
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    (tmp_path / "Python.h").touch()
    monkeypatch.setenv("TAPPER_COMPILE_CACHE", str(tmp_path / "cache"))
    assert build() == build() == (1, "made by cc 1")
    monkeypatch.setenv("TAPPER_COMPILE_LEVEL", "1")
    assert build() == build() == (2, "made by cc 1")
    compiler = "cc 2"
    assert build() == build() == (3, "made by cc 2")
    monkeypatch.delenv("TAPPER_COMPILE_CACHE")
    assert build() == (4, "made by cc 2")


def test_without_pythons_headers_that_is_said(
    hook: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", sys.executable)
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    with pytest.raises(hook["CannotCompile"], match=r"no headers of this Python \(.*/Python.h\): install them"):
        hook["build"](tmp_path)


def test_unless_it_is_asked_for_nothing_is_compiled(tmp_path: Path) -> None:
    done = make_wheel(tmp_path, TAPPER_COMPILE="", CC="/nowhere/cc")
    assert done.returncode == 0, done.stdout
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".so") or "compiled.sources" in name]
