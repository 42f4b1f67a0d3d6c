"""What kind has begun is finished before it is taken away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.waiting import wait_until
from harness.worlds.cluster import shielded

REPOSITORY = Path(__file__).resolve().parents[3]
INTERRUPTED = """
import functools, os, signal, subprocess, sys
from pathlib import Path
from harness.waiting import wait_until
from harness.worlds.cluster import shielded
when, script, begun, done = sys.argv[1:]
started = subprocess.Popen
def interrupted(*arguments, **options):
    process = started(*arguments, **options)
    wait_until(Path(begun).exists, "the child to begin")
    os.kill(os.getpid(), signal.SIGINT)
    return process
if when == "while it starts":
    subprocess.Popen = interrupted
try:
    shielded.run(["sh", "-c", script], functools.partial(print, flush=True))
except KeyboardInterrupt:
    print("the child", "has ended" if Path(done).exists() else "still runs")
"""


def test_the_exit_code_and_what_it_writes() -> None:
    said: list[str] = []
    script = r"echo one; echo two >&2; printf '\033[31mred\n'; exit 3"
    assert shielded.run(["sh", "-c", script], said.append) == 3
    assert said == ["one", "two", r"\x1b[31mred"]


def test_long_lines_are_cut() -> None:
    said: list[str] = []
    assert shielded.run([sys.executable, "-c", "print('x' * 5000)"], said.append) == 0
    assert "".join(said) == "x" * 5000
    assert max(map(len, said)) <= 2000


@pytest.mark.parametrize("when", ["while it runs", "while it starts"])
def test_an_interruption_waits_for_the_children(tmp_path: Path, when: str) -> None:
    """Of the program itself, which is ended, and not of the child, which is in the middle of something."""
    begun, go_on, done = tmp_path / "begun", tmp_path / "go-on", tmp_path / "done"
    script = f"(touch {begun}; while [ ! -e {go_on} ]; do sleep 0.01; done; touch {done}) & wait"
    argv = [sys.executable, "-c", INTERRUPTED, when, script, str(begun), str(done)]
    environ = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environ, start_new_session=True) as running:
        assert running.stdout is not None
        wait_until(begun.exists, "the child to begin")
        if when == "while it runs":
            os.killpg(running.pid, signal.SIGINT)  # as a terminal does: everybody in the foreground gets it
        waiting = running.stdout.readline()
        go_on.touch()
        ended, _ = running.communicate(timeout=30)
    assert waiting == "interrupted: waiting for what sh has begun, so that it can be removed\n"
    assert ended == "the child has ended\n"
