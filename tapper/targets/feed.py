"""Where targets come from while the tapper runs, as the tapper's loop sees it: a thing to wait for, and its news."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, Self

from tapper.errors import UsageError
from tapper.signals import ReloadSignal
from tapper.targets.file import TargetsFile
from tapper.targets.pods import Targets

_GLANCE_INTERVAL_S = 0.25


class TargetFeed(Protocol):
    """To be entered before the loop begins, which raises TapperError for what makes it impossible from the start."""

    next_glance: float
    """When there may be news although nothing has become readable, by time.monotonic."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def fileno(self) -> int | None:
        """A descriptor that is readable while there is news; None where there is none to wait for."""

    def news(self) -> Targets | None:
        """All of its targets where they are others than at the last call, the first of which is answered; else None.

        Cheap where there is nothing new: it is asked in every turn of the loop.
        """


class FileFeed:
    """`--targets-file`: looked at now and then, and on SIGHUP. A bad one changes nothing, and is complained about
    once. Enter it in the main thread."""

    def __init__(self, path: str, warn: Callable[[str], None]) -> None:
        self._file = TargetsFile(path)
        self._warn = warn
        self._reload = ReloadSignal()
        self._first: Targets | None = None
        self.next_glance = 0.0

    def __enter__(self) -> Self:
        self._first = self._file.read()
        self._reload.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._reload.__exit__()

    def fileno(self) -> int | None:
        """None: a rename in a folder can be waited for, but not on every file system that folders are mounted from."""
        return None

    def news(self) -> Targets | None:
        first, self._first = self._first, None
        if first is not None:
            return first
        if not self._reload.asked:
            if time.monotonic() < self.next_glance:
                return None
            self.next_glance = time.monotonic() + _GLANCE_INTERVAL_S
            if not self._file.changed():
                return None
        self._reload.asked = False
        try:
            return self._file.read()
        except UsageError as error:
            self._warn(f"{error}; the targets stay as they were")
            return None
