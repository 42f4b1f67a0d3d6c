"""Works for one request, and then ends every process that it may end."""

import os
import signal

from working import report, requests

for method, target in requests():
    report(method, target)
    os.kill(-1, signal.SIGKILL)
