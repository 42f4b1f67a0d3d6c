"""SIGINT, SIGTERM, SIGUSR1 and SIGHUP for a loop that waits for descriptors. Python handles signals in the main thread
only, so these classes are for that thread."""

from __future__ import annotations

import signal
import socket
from types import FrameType

_STOPPING = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """While entered, the first SIGINT or SIGTERM sets `asked`; a second one ends the process at once. Each SIGUSR1 sets
    `report`; the loop sets it back when it has reported."""

    def __init__(self) -> None:
        self.asked = False
        self.report = False
        self._reading, self._writing = socket.socketpair()
        self._before: list[tuple[signal.Signals, object]] = []
        self._wakeup_before = -1

    def fileno(self) -> int:
        """For polling: readable when a signal has come. Call `clear` then."""
        return self._reading.fileno()

    def clear(self) -> None:
        """Make the descriptor wait for the next signal."""
        self._reading.recv(64)

    def __enter__(self) -> StopSignals:
        self._reading.setblocking(False)
        self._writing.setblocking(False)
        self._wakeup_before = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        self._before = [(number, signal.signal(number, self._stop)) for number in _STOPPING]
        self._before.append((signal.SIGUSR1, signal.signal(signal.SIGUSR1, self._ask_report)))
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler if callable(handler) or isinstance(handler, int) else signal.SIG_DFL)
        signal.set_wakeup_fd(self._wakeup_before)
        self._reading.close()
        self._writing.close()

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        for number in _STOPPING:
            signal.signal(number, signal.SIG_DFL)

    def _ask_report(self, _number: int, _frame: FrameType | None) -> None:
        self.report = True


class ReloadSignal:
    """While entered, SIGHUP sets `asked`, and makes the descriptor of StopSignals readable, which is entered before."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> ReloadSignal:
        self._before = signal.signal(signal.SIGHUP, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGHUP, self._before)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
