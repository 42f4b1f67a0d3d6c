"""Works, and fails when it is asked to end."""

import signal

from working import work


def stop(*_: object) -> None:
    raise RuntimeError("cannot close what is closed")


signal.signal(signal.SIGTERM, stop)
work()
