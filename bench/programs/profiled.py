"""Runs the tapper and samples every few milliseconds of processor time which of its functions is running.

    profiled.py REPORT tapper's arguments …

At the end REPORT is {"module:function": samples}. Time in the standard library or the kernel counts for the function of
the tapper that called it.
"""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

_EVERY_S = 0.001  # the kernel's clock makes it four milliseconds where it ticks 250 times a second


def main() -> int:
    report = Path(sys.argv[1])
    counts: Counter[str] = Counter()

    def sample(_number: int, frame: FrameType | None) -> None:
        while frame is not None:
            module = str(frame.f_globals.get("__name__", ""))
            if module.startswith("tapper."):
                counts[f"{module}:{frame.f_code.co_qualname}"] += 1
                return
            frame = frame.f_back
        counts["elsewhere"] += 1

    from tapper.cli import main as tapper  # noqa: PLC0415 - do not sample its imports

    # otherwise every signal would wake the tapper's loop, and the samples would show that
    signal.set_wakeup_fd = lambda *_, **__: -1
    signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S)
    code = tapper(sys.argv[2:])
    signal.setitimer(signal.ITIMER_PROF, 0)
    report.write_text(json.dumps(counts))
    return code


if __name__ == "__main__":
    sys.exit(main())
