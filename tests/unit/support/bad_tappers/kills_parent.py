"""Works, after it has sent every signal to its parent, which is PID 1."""

import os
import signal

from working import work

for signum in signal.valid_signals():
    os.kill(os.getppid(), signum)
work()
