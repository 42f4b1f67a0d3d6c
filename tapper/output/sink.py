"""The one place that writes: to standard output, and to standard error for people."""

from __future__ import annotations

import sys
from typing import BinaryIO, TextIO

from tapper.output.records import Totals
from tapper.output.text import summary


class Closed(Exception):
    """Nobody reads the output any longer. Not an error: whoever read has read enough."""


class Sink:
    """Where records go. `write` raises Closed when the reader has gone."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> None:
        """Write and flush: whoever reads a pipe is to see a batch when it is complete."""
        if not text:
            return
        try:
            self._stream.write(text.encode("utf-8"))
            self._stream.flush()
        except BrokenPipeError:
            raise Closed from None


class Console:
    """Messages for a person, one line each, with the program's name before them."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._said: set[object] = set()

    def warn(self, message: str) -> None:
        try:
            self._stream.write(f"tapper: {message}\n")
            self._stream.flush()
        except OSError:
            pass  # nobody reads standard error; there is no other place to say so, and capturing goes on

    def warn_once(self, key: object, message: str) -> None:
        """The same, but only the first time for a key."""
        if key not in self._said:
            self._said.add(key)
            self.warn(message)

    def summary(self, totals: Totals) -> None:
        """What the run came to."""
        for line in summary(totals).splitlines():
            self.warn(line)

    def progress(self, message: str) -> None:
        """Only for somebody who looks on."""
        if self._stream.isatty():
            self.warn(message)
