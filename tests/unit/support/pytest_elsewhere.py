"""pytest as another project runs it: in its own folder, with nothing but what `pip install` has put there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

AS_MODULE = ("-m", "pytest")
"""`python -m pytest`: the current folder is the first place that imports look at."""
AS_COMMAND = ("-P", "-m", "pytest")
"""`pytest`: it is not."""


def write(directory: Path, files: Mapping[str, str]) -> None:
    """Write a project's files; the names are paths below its folder."""
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(textwrap.dedent(text))


def run_pytest(
    directory: Path,
    *options: str,
    command: tuple[str, ...] = AS_MODULE,
    wrapper: tuple[str, ...] = (),
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run it to its end. `wrapper`: a command that starts another one, as setpriv(1) does."""
    environ = {
        key: value for key, value in os.environ.items() if key != "CI" and not key.startswith(("PYTEST", "PYTHON"))
    }
    argv = [*wrapper, sys.executable, *command, "-q", "-p", "no:cacheprovider", *options]
    return subprocess.run(
        argv, cwd=directory, env=environ | environment, capture_output=True, text=True, check=False, timeout=120
    )


def outcome(done: subprocess.CompletedProcess[str]) -> str:
    """The counts of pytest's last line: `1 passed`, `1 passed, 1 error`; everything it said if it has none."""
    last = (done.stdout.strip().splitlines() or [""])[-1]
    counts = re.fullmatch(r"(\d+ .*) in [\d.]+s.*", last)
    return counts[1] if counts else done.stdout + done.stderr
