"""Reading files that a tapper under test makes, which may be anything: gone, endless, a pipe, a link to a device."""

from __future__ import annotations

import os
import stat
from pathlib import Path

MOST = 256 << 20
"""Of one file no more than this is read, in bytes."""


class UnreadableFile(Exception):
    """A file that cannot be read as one: the sentence says why."""


def read(path: Path, start: int = 0) -> bytes:
    """What lies in a file from `start` on, up to `MOST`; nothing of one that is not there. Raises `UnreadableFile`."""
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
    """What the files in and below a folder take, in bytes of the disk."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512  # noqa: PTH118 - a walk of many
            except OSError:
                continue  # gone meanwhile
    return total


def _not_waiting(path: str, flags: int) -> int:
    """For `open`: a pipe that lies where a file should be shall not hold the kit up."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
