"""The tapper, and where its time goes: every few milliseconds of processor time, which of its functions is at work.

    profiled.py REPORT tapper's arguments …

At the end REPORT is {"module:function": samples}. What a function calls outside of the tapper, such as the standard
library or the kernel, counts as its own.
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

    from tapper.cli import main as tapper  # noqa: PLC0415 - its imports are not to be sampled

    # the tapper's loop wakes up at every signal otherwise, and would be seen doing that
    signal.set_wakeup_fd = lambda *_, **__: -1
    signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S)
    code = tapper(sys.argv[2:])
    signal.setitimer(signal.ITIMER_PROF, 0)
    report.write_text(json.dumps(counts))
    return code


if __name__ == "__main__":
    sys.exit(main())
