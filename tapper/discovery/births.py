"""Whether any process has begun, asked of the kernel with one system call."""

from __future__ import annotations

import os

from tapper.discovery.procfs import Procfs

_LARGEST = 128  # bytes of /proc/loadavg: five numbers


class Births:
    """Asks for the process id that was given away last (proc_loadavg(5)), by a descriptor that is kept. Construction
    reads nothing."""

    def __init__(self, procfs: Procfs) -> None:
        self._procfs = procfs
        self._usable: bool | None = None
        """Whether the number counts what is in that procfs; None before anybody asked."""
        self._file: int | None = None

    def newest(self) -> int | None:
        """A number that is another one once any process has begun. None where that cannot be known, since the kernel
        answers for the reader's own PID namespace (fs/proc/loadavg.c)."""
        if self._usable is None:
            self._usable = self._procfs.numbers_are_ours()
        if not self._usable:
            return None
        try:
            if self._file is None:
                self._file = os.open(f"{self._procfs}/loadavg", os.O_RDONLY)
            return int(os.pread(self._file, _LARGEST, 0).rpartition(b" ")[2])
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        """Let go of the descriptor."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
