"""The file that names the targets, and whether it has been replaced.

It should be replaced by an atomic rename. A file that is written in place may be read when it is half-written: it is
refused then, and read again when it has changed once more.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from tapper.errors import UsageError, explain
from tapper.targets.pods import Targets, parse_in_steps

_LARGEST = 64 << 20  # bytes; a hundred times the size that the largest cluster needs

_Stamp: TypeAlias = tuple[int, int, int, int] | None


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
