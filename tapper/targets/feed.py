"""Places that targets come from while the tapper runs, as the tapper's loop sees them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol, Self

from tapper.errors import UsageError
from tapper.signals import ReloadSignal
from tapper.targets.file import TargetsFile
from tapper.targets.pods import Targets

_GLANCE_INTERVAL_S = 0.25
_READING_S = 0.02
"""How long a turn of the loop may read a long list."""


class TargetFeed(Protocol):
    """Entered before the loop begins, which raises TapperError where the feed cannot work at all."""

    next_glance: float
    """When to call `news` although the descriptor is not readable, in time.monotonic's seconds."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def fileno(self) -> int | None:
        """A descriptor that is readable while there is news; None where the feed has none."""

    def news(self) -> Targets | None:
        """All of the feed's targets if they have changed since the last call; the first call returns them always.

        Cheap where nothing has changed: the loop calls it in every turn.
        """


class FileFeed:
    """`--targets-file`: looked at four times a second, and on SIGHUP. A bad file changes nothing, and a person is told
    once. Enter it in the main thread."""

    def __init__(self, path: str, warn: Callable[[str], None]) -> None:
        self._file = TargetsFile(path)
        self._warn = warn
        self._reload = ReloadSignal()
        self._first: Targets | None = None
        self._reading: Iterator[Targets | None] | None = None
        """The file that is being read."""
        self.next_glance = 0.0

    def __enter__(self) -> Self:
        self._first = self._file.read()
        self._reload.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._reload.__exit__()

    def fileno(self) -> int | None:
        """None: inotify(7) does not see a rename on every file system from which a folder can be mounted."""
        return None

    def news(self) -> Targets | None:
        first, self._first = self._first, None
        if first is not None:
            return first
        if self._reading is None:
            if not self._reload.asked:
                if time.monotonic() < self.next_glance:
                    return None
                self.next_glance = time.monotonic() + _GLANCE_INTERVAL_S
                if not self._file.changed():
                    return None
            self._reload.asked = False
            self._reading = self._file.read_in_steps()
        return self._read_on(self._reading)

    def _read_on(self, reading: Iterator[Targets | None]) -> Targets | None:
        """Go on reading for a moment; the targets at its end."""
        end = time.monotonic() + _READING_S
        try:
            targets = next(reading)
            while targets is None and time.monotonic() < end:
                targets = next(reading)
        except UsageError as error:
            self._warn(f"{error}; the targets stay as they were")
            targets = None
        else:
            if targets is None:
                self.next_glance = 0.0  # at once, after other work of the loop
                return None
        self._reading = None
        self.next_glance = time.monotonic() + _GLANCE_INTERVAL_S
        return targets
