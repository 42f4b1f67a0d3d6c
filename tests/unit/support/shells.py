"""Our commands under a shell, which closes and redirects as a person does; what they must never show is a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from adapter_files import REPOSITORY

PROGRAMS = {"tapper": [sys.executable, "-m", "tapper"], "tapper-harness": [sys.executable, "-m", "harness.cli"]}


def shell(folder: Path, line: str, *wrapper: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a line in which `tapper` and `tapper-harness` are ours. `stderr` is the shell's and so theirs."""
    return _run(folder, line, wrapper, environ, subprocess.PIPE)


def without_reader(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    """The same, with a pipe as standard output whose other end is closed already."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        return _run(folder, line, (), {}, write_end)
    finally:
        os.close(write_end)


def _run(
    folder: Path, line: str, wrapper: tuple[str, ...], environ: dict[str, str], stdout: int
) -> subprocess.CompletedProcess[str]:
    functions = "\n".join(f'{name}() {{ {" ".join(argv)} "$@"; }}' for name, argv in PROGRAMS.items())
    done = subprocess.run(
        [*wrapper, "bash", "-c", f"set -o pipefail\n{functions}\n{line}"],
        cwd=folder,
        env={"PYTHONPATH": str(REPOSITORY)} | os.environ | environ,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
        timeout=120,
    )
    said = (done.stdout or "") + done.stderr
    assert "Traceback" not in said, said
    assert "Exception ignored" not in said, said
    return done
