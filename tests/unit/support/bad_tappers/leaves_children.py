"""Works, and leaves a daemon that has a child, which holds the standard output; both do not hear SIGTERM."""

import os
import signal

from working import work

if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.fork()
    while True:
        signal.pause()
work()
