"""Messages for people on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import TextIO

from tapper.output.escape import shortened, visible
from tapper.output.outlet import Outlet, open_outlet
from tapper.output.records import Totals
from tapper.output.text import summary

_MESSAGES_WAITING = 64 << 10  # bytes
_LONGEST_MESSAGE = 4000  # characters
_LAST_MESSAGES_S = 0.2
_FOLDED_S = 60.0
"""The same message is written again after this time."""
_MOST_KEYS = 10_000
_MOST_MESSAGES = 256
"""Messages that are remembered, and messages in _FOLDED_S seconds."""


class Console:
    """Writes messages, one line each, after the program's name. Characters that a terminal obeys are escaped. Writing
    never waits, and a message that cannot be written is left out: capturing goes on."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._outlet: Outlet | None = None
        self._said: dict[object, None] = {}
        self._recent: dict[str, int] = {}
        """The messages since `_since`, each with the number of its repetitions."""
        self._since = -_FOLDED_S
        self._left_out = 0

    def do_not_wait(self) -> None:
        """From now on writing does not wait for the reader of a pipe or a terminal. Messages that the reader does not
        take are left out, once some of them wait."""
        try:
            self._stream.flush()
            self._outlet = open_outlet(self._stream.fileno(), _MESSAGES_WAITING)
        except OSError:
            pass  # there is no descriptor, or standard error cannot be written

    def finish(self) -> None:
        """Give the reader a moment to take the last messages."""
        outlet, self._outlet = self._outlet, None
        if outlet is not None:
            try:
                outlet.finish(_LAST_MESSAGES_S, _LAST_MESSAGES_S)
            except OSError:
                pass
            outlet.close()

    def warn(self, message: str) -> None:
        """Write a message, unless it or too many others were written within the last minute."""
        now = time.monotonic()
        if now - self._since >= _FOLDED_S:
            self._tell_folded()
            self._since = now
        if message in self._recent:
            self._recent[message] += 1
        elif len(self._recent) >= _MOST_MESSAGES:
            self._left_out += 1
        else:
            self._recent[message] = 0
            self._line(message)

    def warn_once(self, key: object, message: str) -> None:
        """The same, but only once for each key."""
        if key not in self._said:
            self._said[key] = None
            if len(self._said) > _MOST_KEYS:
                del self._said[next(iter(self._said))]
            self.warn(message)

    def summary(self, totals: Totals) -> None:
        """The counts of the run."""
        self._tell_folded()
        self.table(summary(totals).splitlines())

    def table(self, lines: Iterable[str]) -> None:
        """Further lines of the summary."""
        for line in lines:
            self._line(line)

    def _tell_folded(self) -> None:
        """Say which messages came again, and how many were left out, since the last time."""
        recent, self._recent = self._recent, {}
        left_out, self._left_out = self._left_out, 0
        for message, again in recent.items():
            if again:
                self._line(f"{message} (this came {again} more {'time' if again == 1 else 'times'})")
        if left_out:
            self._line(f"{left_out} more messages are left out: there were too many")

    def _line(self, message: str) -> None:
        line = f"tapper: {visible(shortened(message, _LONGEST_MESSAGE))}\n"
        try:
            if self._outlet is not None:
                self._outlet.write(line.encode())
                return
            self._stream.write(line)
            self._stream.flush()
        except OSError:
            pass  # standard error is closed: there is no other place for the message

    def progress(self, message: str) -> None:
        """A message that is shown only on a terminal."""
        if self._stream.isatty():
            self.warn(message)
