"""Runs a program and measures the processor time of its whole process tree.

    meter.py REPORT OUTPUT program argument …

The program's standard output goes to OUTPUT. This process passes SIGINT and SIGTERM on. It inherits the orphans of the
program (PR_SET_CHILD_SUBREAPER, prctl(2)), ends them, and counts them, too. At the end REPORT is
{"code", "cpu_seconds"}: the program's exit code, or minus the number of its signal, and the user and system time of all
descendants (getrusage(2), RUSAGE_CHILDREN). It uses the standard library only, and runs with `python -I -S`.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_WATCHED = {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD}


def main() -> int:
    report, output, *argv = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    program = os.fork()
    if program == 0:
        _become(output, argv)
    code = None
    while True:
        asked = signal.sigwait(_WATCHED)
        if asked != signal.SIGCHLD and code is None:
            os.kill(program, asked)
        try:
            while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                if ended[0] == program:
                    code = os.waitstatus_to_exitcode(ended[1])
        except ChildProcessError:
            break
        if code is not None:
            for orphan in _children():
                os.kill(orphan, signal.SIGKILL)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    Path(report).write_text(json.dumps({"code": code, "cpu_seconds": spent.ru_utime + spent.ru_stime}))
    return 0


def _become(output: str, argv: list[str]) -> None:
    try:
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 1)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        os.execvp(argv[0], argv)
    except OSError as error:
        sys.stderr.write(f"cannot run {argv[0]}: {error.strerror}\n")
    finally:
        os._exit(127)


def _children() -> list[int]:
    own = os.getpid()
    return [int(pid) for pid in Path(f"/proc/{own}/task/{own}/children").read_text().split()]


if __name__ == "__main__":
    sys.exit(main())
