"""Running a program that Ctrl-C does not reach, so that it finishes what it has begun, and that can be removed."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from tapper.output.escape import printable

_END_S = 60.0
_PAUSE_S = 0.1
_LONGEST_LINE = 2000


def run(argv: Sequence[str], say: Callable[[str], None]) -> int:
    """Run a program, report each line that it writes, return its exit code.

    On an interruption, which is reported, the program is asked to end, and its children are waited for. kind starts a
    node by `docker run`: if that is killed, Docker's daemon goes on by itself, and the container is there after
    everything was removed.
    """
    with ThreadPoolExecutor(
        1
    ) as starter:  # an interruption comes to the main thread, so it knows what the other thread has started
        starting = starter.submit(_start, argv)
        try:
            process = starting.result()
            for line in _lines(process):
                say(printable(line.rstrip()))
            return _end(process)
        except OSError:
            raise  # there is no such program
        except BaseException:
            process = starting.result()
            say(f"interrupted: waiting for what {argv[0].rpartition('/')[2]} has begun, so that it can be removed")
            process.terminate()
            deque(_lines(process), 0)  # empty the pipe, so that no child waits for a reader
            _end(process)
            deadline = time.monotonic() + _END_S
            while _lives(process.pid):
                if time.monotonic() >= deadline:
                    os.killpg(process.pid, signal.SIGKILL)
                time.sleep(_PAUSE_S)
            raise


def _start(argv: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        start_new_session=True,
    )


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    """The lines of its output, until the last process that can write has ended. Long lines come in parts."""
    assert process.stdout is not None
    return iter(functools.partial(process.stdout.readline, _LONGEST_LINE), "")


def _end(process: subprocess.Popen[str]) -> int:
    """Wait for its exit code."""
    assert process.stdout is not None
    process.stdout.close()
    return process.wait()


def _lives(group: int) -> bool:
    """Whether a process group has processes left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
