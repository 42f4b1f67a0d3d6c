"""The tapper is complete without the package tapper.fast, and gives the same output with it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tapper_wire import Wire

import tapper
from tapper.output import pcapng
from tapper.run.parts import PLAIN, chosen

TS = 1_700_000_000_123_456_000
REPORT = "import tapper.cli, tapper.run.parts as parts; print(parts.chosen() is parts.PLAIN)"


def capture() -> bytes:
    wire = Wire((("10.0.0.3", 40000), ("10.0.0.2", 8080)))
    frames = wire.handshake()
    for number in range(6):
        frames += wire.exchange(f'/{number}?q="\xe9', "x" * number)
    frames += wire.close()
    file = pcapng.section_header("t") + pcapng.interface("10.0.0.2 lo", "")
    return file + b"".join(pcapng.packet(0, TS + number, frame) for number, frame in enumerate(frames))


def run(folder: Path, *arguments: str, **environ: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "TAPPER_PLAIN"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(folder), **environ},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with a copy of the package `tapper` that lacks `tapper.fast`."""
    shutil.copytree(
        Path(tapper.__file__).parent,
        tmp_path / "tapper",
        ignore=shutil.ignore_patterns("fast", "*.so", "compiled.sources", "__pycache__"),
    )
    return tmp_path


@pytest.mark.parametrize("output", ["ndjson", "text", "har"])
def test_a_copy_without_fast_replays_a_capture_with_the_same_output(copy: Path, output: str) -> None:
    file = copy / "capture.pcapng"
    file.write_bytes(capture())
    arguments = ("-m", "tapper", "tap", "-r", str(file), "-o", output)
    complete = re.sub(r'"pid":\d+', '"pid":0', run(Path(tapper.__file__).parents[1], *arguments))
    assert re.sub(r'"pid":\d+', '"pid":0', run(copy, *arguments)) == complete
    assert "/5?q=" in complete
    assert run(copy, "-c", REPORT) == "True\n"


def test_an_environment_variable_chooses_the_plain_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPPER_PLAIN", "1")
    assert chosen() is PLAIN
