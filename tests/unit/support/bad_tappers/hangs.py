"""Starts and does nothing at all; `deaf`: and does not end; `stopped`: stops itself."""

import os
import signal
import sys

if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "stopped" in sys.argv:
    os.kill(os.getpid(), signal.SIGSTOP)
while True:
    signal.pause()
