"""Reading files that a tapper under test makes: such a file may be missing, endless, a pipe, or a link to a device."""

from __future__ import annotations

import os
import stat
from pathlib import Path

MOST = 256 << 20
"""At most this many bytes of a file are read."""


class UnreadableFile(Exception):
    """A file that cannot be read: the sentence says why."""


def read(path: Path, start: int = 0) -> bytes:
    """The content of a file from `start` on, up to `MOST` bytes; nothing if it is missing. Raises `UnreadableFile`."""
    try:
        with open(path, "rb", opener=_not_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UnreadableFile(f"{path.name} is no regular file")
            file.seek(start)
            return file.read(max(0, MOST - start))
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise UnreadableFile(f"{path.name} cannot be read: {error.strerror}") from None


def size(folder: Path) -> int:
    """The size of the files in and below a folder, in bytes of the disk."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512  # noqa: PTH118 - a walk of many
            except OSError:
                continue  # gone meanwhile
    return total


def _not_waiting(path: str, flags: int) -> int:
    """An opener for `open` that does not wait for the writer of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
