"""What kind has begun is finished before it is taken away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from harness.waiting import wait_until
from harness.worlds.cluster import shielded

REPOSITORY = Path(__file__).resolve().parents[3]
INTERRUPTED = """
import sys
from harness.worlds.cluster import shielded
try:
    shielded.run(["sh", "-c", sys.argv[1]], print)
except KeyboardInterrupt:
    print("the child", "has ended" if __import__("pathlib").Path(sys.argv[2]).exists() else "still runs")
"""


def test_the_exit_code() -> None:
    assert shielded.run(["sh", "-c", "exit 3"], print) == 3


def test_an_interruption_waits_for_the_children(tmp_path: Path) -> None:
    """Of the program itself, which is ended, and not of the child, which is in the middle of something."""
    begun, done = tmp_path / "begun", tmp_path / "done"
    script = f"(touch {begun}; sleep 1; touch {done}) & wait"
    argv = [sys.executable, "-c", INTERRUPTED, script, str(done)]
    environ = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environ, start_new_session=True) as running:
        wait_until(begun.exists, "the child to begin")
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does: everybody in the foreground gets it
        out, _ = running.communicate(timeout=30)
    waiting, ended = out.splitlines()
    assert waiting == "interrupted: waiting for what sh has begun, so that it can be removed"
    assert ended == "the child has ended"
