"""Works, but for what it tells.

Its argument: `tenth-late` adds an hour to the time from the tenth record on, `invents` a probe each time, `right` tells
all as it was.
"""

from __future__ import annotations

import itertools
import sys
import time

from working import report, requests

_HOUR_S = 3600.0

if __name__ == "__main__":
    for number, (method, target) in zip(itertools.count(1), requests(), strict=False):
        late = sys.argv[1] == "tenth-late" and number >= 10
        report(method, target, ts=time.time() + late * _HOUR_S)
        if sys.argv[1] == "invents":
            report("GET", "/livez")
