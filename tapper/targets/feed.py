"""Places that targets come from while the tapper runs, as the tapper's loop sees them; and the targets file.

The targets file should be replaced by an atomic rename. A file that is written in place may be read when it is
half-written: it is refused then, and read again when it has changed once more.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, Self, TypeAlias

from tapper.errors import UsageError, explain
from tapper.signals import ReloadSignal
from tapper.targets.pods import Targets, parse_in_steps

_GLANCE_INTERVAL_S = 0.25
_READING_S = 0.02
"""How long a turn of the loop may read a long list."""


_LARGEST = 64 << 20  # bytes; a hundred times the size that the largest cluster needs

_Stamp: TypeAlias = tuple[int, int, int, int] | None


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


class TargetsFile:
    """The file at a path. Construction reads nothing."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._stamp: _Stamp = None

    def changed(self) -> bool:
        """Whether the file differs from the file of the last `read`, by device, inode, size and time (stat(2))."""
        try:
            return _stamp(self._path.stat()) != self._stamp
        except OSError:
            return self._stamp is not None

    def read(self) -> Targets:
        """Raises UsageError that names the file and what is wrong with it."""
        return next(targets for targets in self.read_in_steps() if targets is not None)

    def read_in_steps(self) -> Iterator[Targets | None]:
        """The same in steps (`parse_in_steps`). The file is read before the first step."""
        self._stamp = None
        try:
            # O_NONBLOCK: open(2) of a FIFO would wait until another process opens it for writing
            with os.fdopen(os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
                status = os.fstat(file.fileno())
                self._stamp = _stamp(status)
                if not stat.S_ISREG(status.st_mode):
                    raise UsageError(f"{self._path} is no regular file: write the list to one (--targets-file)")
                text = file.read(_LARGEST + 1)
        except OSError as error:
            raise UsageError(f"cannot read {self._path}: {explain(error)} (--targets-file)") from error
        if len(text) > _LARGEST:
            raise UsageError(f"{self._path} is no list of targets: it is larger than {_LARGEST} bytes (--targets-file)")
        try:
            yield from parse_in_steps(text)
        except ValueError as error:
            raise UsageError(f"{self._path} is no list of targets: {error} (--targets-file)") from None


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


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
