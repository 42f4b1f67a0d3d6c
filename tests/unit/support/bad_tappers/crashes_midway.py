"""Works for five requests."""

import os

from working import report, requests

for number, (method, target) in enumerate(requests()):
    report(method, target)
    if number == 5:
        os.abort()
