"""Works for one request, and then ends every process that it may end."""

import os
import signal

from working import report, requests

signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the kit may ask for its end as soon as the request is reported
for method, target in requests():
    report(method, target)
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        pass  # of the second request that was captured: nobody is left, and this tapper itself goes on
