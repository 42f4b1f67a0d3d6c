"""Works, and fails when it is asked to end."""

import os
import signal
import sys
import threading

from working import work

# waited for, not handled: a handler of Python's does not run as long as the kernel waits for a packet, if the signal
# came just before that
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
threading.Thread(target=work).start()
signal.sigwait([signal.SIGTERM])
sys.stderr.write("RuntimeError: cannot close what is closed\n")
os._exit(1)
