"""Runs a program for as long as somebody holds the other end: `python -m harness.worlds.programs.leash ARGV…`.

The end of an exec session in Kubernetes does not end the program that it started. This one ends its child, by SIGTERM,
when a line comes on standard input, or its end; exits as the child does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def main() -> int:
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)

    def hold() -> None:
        os.read(0, 1)
        child.send_signal(signal.SIGTERM)

    threading.Thread(target=hold, daemon=True).start()
    return child.wait()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code if code >= 0 else 128 - code)  # the thread may still be reading
