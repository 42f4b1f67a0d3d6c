"""A tapper's standard error, read while it is written."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO

from harness.adapters.limits import MOST_OUTPUT
from harness.adapters.observed import in_words

_LAST_WORDS = 4096


class StandardError:
    """Reads from a file that is kept open: a tapper may delete every file that it finds, and its last words are still
    needed.

    After `close` it answers from memory.
    """

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO | None = path.open("rb")
        self._whole = b""
        self._looked_at = 0

    def text(self) -> str:
        """All of it so far."""
        return self.since(0).decode(errors="replace")

    def since(self, start: int) -> bytes:
        """The bytes from an offset on, as far as they exist."""
        if self._file is None:
            return self._whole[start:]
        return os.pread(self._file.fileno(), MOST_OUTPUT, start)

    @property
    def size(self) -> int:
        return len(self._whole) if self._file is None else os.fstat(self._file.fileno()).st_size

    def last_line(self) -> str:
        """The last line, bounded; empty if nothing was written."""
        tail = self.since(max(0, self.size - _LAST_WORDS)).decode(errors="replace").strip().splitlines()
        return in_words(tail[-1]) if tail else ""

    def has_new(self, pattern: re.Pattern[str], *, more_to_come: bool) -> bool:
        """Whether a line that no earlier call has examined matches.

        While there is `more_to_come`, text without a line feed is no line yet.
        """
        fresh = self.since(self._looked_at)
        whole = fresh[: fresh.rfind(b"\n") + 1] if more_to_come else fresh
        self._looked_at += len(whole)
        return any(pattern.search(line) for line in whole.decode(errors="replace").splitlines())

    def close(self) -> None:
        """Keep the content, and close the file."""
        if self._file is not None:
            self._whole = self.since(0)
            self._file.close()
            self._file = None
