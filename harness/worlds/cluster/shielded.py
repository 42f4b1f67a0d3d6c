"""A program that Ctrl-C does not reach, because what it has begun has to be finished before it can be taken away."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

_END_S = 60.0
_PAUSE_S = 0.1


def run(argv: Sequence[str], say: Callable[[str], None]) -> int:
    """Its exit code. At an interruption, which is said, it is asked to end, and its children are waited for.

    kind starts a node by `docker run`: when that is killed, Docker's daemon goes on by itself, and the container is
    there after everything was removed.
    """
    with ThreadPoolExecutor(1) as starter:  # an interruption comes to the main thread: what has started is known there
        starting = starter.submit(subprocess.Popen, argv, start_new_session=True)
        try:
            return starting.result().wait()
        except OSError:
            raise  # there is no such program
        except BaseException:
            process = starting.result()
            say(f"interrupted: waiting for what {argv[0].rpartition('/')[2]} has begun, so that it can be removed")
            process.terminate()
            process.wait()
            deadline = time.monotonic() + _END_S
            while _lives(process.pid):
                if time.monotonic() >= deadline:
                    os.killpg(process.pid, signal.SIGKILL)
                time.sleep(_PAUSE_S)
            raise


def _lives(group: int) -> bool:
    """Whether a process group has processes left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
