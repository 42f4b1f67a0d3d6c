"""The limits of a tapper under test, in bytes: beyond them the kit ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from harness.adapters.family import Family

MOST_OUTPUT = 256 << 20
"""Limit of its standard output, and of its standard error."""
MOST_MEMORY = 1 << 30
"""Limit of the resident memory of it and its children together."""
MOST_FILES = 512 << 20
"""Limit of its output and its state, and of the files in the node's /run, where it may write as well."""
_INTERVAL_S = 0.2


class LimitWatch:
    """Compares a tapper with its limits, five times a second, from construction to `stop`, and kills it beyond them.

    `sizes` measures its standard error, the files of its output and its state, and the files in the node's /run.
    """

    def __init__(self, family: Family, sizes: Callable[[], tuple[int, int, int]]) -> None:
        self.excess = ""
        """Why the tapper was killed, in words that continue `its end`; empty if it was not."""
        self.most_memory = 0
        """The largest resident memory of it and its children that was measured."""
        self._family = family
        self._sizes = sizes
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="tapper-limits", daemon=True)
        self._thread.start()

    def output(self, size: int) -> bool:
        """Whether the tapper's standard output may have grown to this size; kills the tapper if not."""
        if size > MOST_OUTPUT:
            self._kill(f"it wrote more than {MOST_OUTPUT >> 20} MiB")
        return size <= MOST_OUTPUT

    def stop(self, seconds: float) -> None:
        """End the watch, which takes at most so long."""
        self._stopping.set()
        self._thread.join(seconds)

    def _watch(self) -> None:
        while not self._stopping.wait(_INTERVAL_S):
            memory = self._family.memory()
            self.most_memory = max(self.most_memory, memory)
            log, files, run_files = self._sizes()
            if memory > MOST_MEMORY:
                self._kill(f"it took more than {MOST_MEMORY >> 20} MiB of memory")
            elif log > MOST_OUTPUT:
                self._kill(f"it wrote more than {MOST_OUTPUT >> 20} MiB to its standard error")
            elif files > MOST_FILES:
                self._kill(f"its files took more than {MOST_FILES >> 20} MiB")
            elif run_files > MOST_FILES:
                self._kill(f"the files in /run took more than {MOST_FILES >> 20} MiB")

    def _kill(self, reason: str) -> None:
        if not self.excess:
            self.excess = reason
            self._family.kill()
