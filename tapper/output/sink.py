"""The one place that writes: to standard output or a file, and to standard error for people."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable
from typing import BinaryIO, TextIO

from tapper.errors import TapperError, explain
from tapper.output.records import Totals
from tapper.output.text import summary

_MOST_GATHERED = 1 << 20


class Closed(Exception):
    """Nobody reads the output any longer. Not an error: whoever read has read enough."""


class Sink:
    """Where records go. `write` raises Closed when the reader has gone. As a context manager it closes the stream,
    if it is its `own`."""

    def __init__(self, stream: BinaryIO, *, own: bool = False) -> None:
        self._stream = stream
        self._own = own
        self._gathered: list[bytes] | None = None
        self._size = 0

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *_: object) -> None:
        if self._own:
            self._stream.close()

    def fileno(self) -> int:
        return self._stream.fileno()

    def gather(self) -> None:
        """From now on keep what is written until `flush`, or until it is much."""
        self._gathered = []

    def flush(self) -> None:
        """Write what was gathered. Raises as `write_bytes` does."""
        if self._gathered:
            data, self._gathered, self._size = b"".join(self._gathered), [], 0
            self._write(data)

    def write(self, text: str) -> None:
        """Write and flush, unless gathering: whoever reads a pipe is to see a batch when it is complete."""
        self.write_bytes(text.encode("utf-8"))

    def write_bytes(self, data: bytes) -> None:
        """Likewise. Raises TapperError where the output takes no more, as a full disk does."""
        if not data:
            return
        if self._gathered is None:
            self._write(data)
            return
        self._gathered.append(data)
        self._size += len(data)
        if self._size > _MOST_GATHERED:
            self.flush()

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:  # a disk that gets full takes a part, and says so only when asked to take the rest
                rest = rest[self._stream.write(rest) :]
            self._stream.flush()
        except BrokenPipeError:
            raise Closed from None
        except OSError as error:
            raise TapperError(f"cannot write the output: {explain(error)}") from error


def open_output(path: str | None) -> Sink:
    """Standard output for None and "-"; else a file, emptied if there is one, that only its owner can read: what goes
    in was meant for somebody else. Raises TapperError."""
    if path is None or path == "-":
        return Sink(sys.stdout.buffer)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.fchmod(descriptor, 0o600)  # before anything is in it: the file may be an old one with other rights
                os.ftruncate(descriptor, 0)
        except OSError:
            os.close(descriptor)
            raise
    except OSError as error:
        raise TapperError(f"cannot write to {path}: {explain(error)} (-w)") from error
    return Sink(os.fdopen(descriptor, "wb", buffering=0), own=True)


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

    def table(self, lines: Iterable[str]) -> None:
        """More of the summary."""
        for line in lines:
            self.warn(line)

    def progress(self, message: str) -> None:
        """Only for somebody who looks on."""
        if self._stream.isatty():
            self.warn(message)
