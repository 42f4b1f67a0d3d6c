"""The outputs of a node's processes: one file each, in the node's own memory."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

_MOST_READ = 16 << 20


class Logs:
    """The files NNN-NAME.log in a directory, numbered in the order of their making."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count(1)

    def create(self, name: str) -> tuple[Path, int]:
        """A fresh file for the output of a program, and a descriptor to append to it.

        Raises FileNotFoundError when the directory is gone.
        """
        safe = "".join(c if c.isalnum() else "-" for c in Path(name).name)
        path = self._directory / f"{next(self._numbers):03}-{safe}.log"
        return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def read(self) -> dict[str, str]:
        """The content of every log so far (16 MiB at most), by its name without the suffix."""
        contents = {}
        for log in sorted(self._directory.glob("*.log")):
            try:
                with log.open("rb") as file:
                    contents[log.stem] = file.read(_MOST_READ).decode(errors="replace")
            except OSError:
                continue  # a program in the node has deleted the file, or put something else in its place
        return contents
