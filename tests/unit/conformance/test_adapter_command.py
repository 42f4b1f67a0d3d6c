"""`tapper-harness adapter new` and `try`: an adapter is written in minutes, and told what is wrong with it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from adapter_files import adapter_file
from kit_command import command

BAD_TAPPERS = Path(__file__).resolve().parents[1] / "support" / "bad_tappers"


def test_a_fresh_skeleton_works_as_it_is(tmp_path: Path) -> None:
    done = command(tmp_path, "adapter", "new", "mine")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("Next: tapper-harness adapter try mine/adapter.toml\n")
    done = command(tmp_path, "adapter", "try", "mine/adapter.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mine (1) claims ipv6, packets, pod_identity" in done.stdout
    sighting = r"Sighting: GET /orders/nonce-\w+ -> 200, 127\.0\.0\.6:\d+ > 10\.\S+, inbound at 10\.244\."
    assert re.search(sighting, done.stdout), done.stdout
    assert "ok  It left no process behind." in done.stdout
    cases = ("CAP-01", "CAP-02", "CAP-03", "CAP-04", "SEC-06")
    named = [word for case in cases for word in ("--case", case)]
    done = command(tmp_path, "check", "--adapter", "mine/adapter.toml", *named, "--patience", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"\n{len(cases)} pass, " in done.stdout, done.stdout


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "run.py").write_text("precious")
    done = command(tmp_path, "adapter", "new", "mine")
    assert done.returncode == 2
    assert "mine/run.py is there already, and is not overwritten" in done.stderr
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["run.py"]
    assert (tmp_path / "mine" / "run.py").read_text() == "precious"


@pytest.mark.parametrize(
    ("script", "code", "told"),
    [
        ("working", 0, r"ok  Each was reported once, and as it was sent"),
        ("crashes_at_once", 1, r"NO  TapperDied: its end \(exit code 1\): ValueError: no such.*\n +-> It has to run"),
        ("hangs", 1, r"NO  Late: nothing of it in that time\.\n +-> It wrote nothing at all to its standard output"),
        ("chatter", 1, r"-> It wrote something, and nothing of the canary"),
        ("ignores_sigterm", 1, r"NO  It did not end within 5 s of SIGTERM, and was killed\.\n +-> Handle SIGTERM"),
        ("crashes_on_stop", 1, r"NO  It ended with exit code 1 when asked to"),
        ("leaves_children", 1, r"NO  It left behind: .*leaves_children\.py"),
        ("garbage types", 1, r"NO  In its output: a line that is no record \(its method is no text\)"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(tmp_path: Path, script: str, code: int, told: str) -> None:
    name, *arguments = script.split()
    argv = [sys.executable, str(BAD_TAPPERS / f"{name}.py"), *arguments]
    if name == "chatter":
        argv = ["sh", "-c", 'echo \'{"type": "hello"}\'; exec sleep 1000']
    file = adapter_file(tmp_path, argv, claims=[])
    file.write_text(file.read_text() + '[targets]\ndiscovery = "kit"\n')
    patience = "0.3" if name in ("hangs", "chatter") else "1"
    done = command(tmp_path, "adapter", "try", str(file), "--patience", patience)
    assert done.returncode == code, done.stdout + done.stderr
    assert re.search(told, done.stdout), done.stdout


def test_the_reference(tmp_path: Path) -> None:
    done = command(tmp_path, "adapter", "try", "reference")
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_adapter_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("contract = 2")
    done = command(tmp_path, "adapter", "try", "x.toml")
    assert done.returncode == 2
    assert "contract: is 2, and has to be 1" in done.stderr
