"""`tapper-harness` as somebody types it, in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from adapter_files import REPOSITORY

COMMAND = [sys.executable, "-m", "harness.cli"]
ENVIRON = os.environ | {"PYTHONPATH": str(REPOSITORY)}


def command(directory: Path, *argv: str, limit_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        [*COMMAND, *argv], cwd=directory, env=ENVIRON, capture_output=True, text=True, check=False, timeout=limit_s
    )
