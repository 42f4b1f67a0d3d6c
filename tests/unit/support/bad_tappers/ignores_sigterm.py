"""Works, and goes on working."""

import signal

from working import work

signal.signal(signal.SIGTERM, signal.SIG_IGN)
work()
