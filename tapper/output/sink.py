"""The one place that writes: to standard output or a file, and to standard error for people."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import sys
from collections import deque
from collections.abc import Iterable
from itertools import accumulate
from typing import BinaryIO, TextIO

from tapper.errors import TapperError, explain
from tapper.output.records import Totals
from tapper.output.text import summary

_MOST_GATHERED = 1 << 20
_ENDS_KEPT = 4096
_WRITING = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW


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
        self.ending = b""
        """What makes the output whole wherever a record ends: written when a full disk takes no more."""
        self._ends: deque[int] | None = deque(maxlen=_ENDS_KEPT) if _can_be_cut(stream) else None
        """Where the last pieces end, as offsets in the file."""

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
            pieces, self._gathered, self._size = self._gathered, [], 0
            self._write(pieces)

    def write(self, text: str) -> None:
        """Write whole records, and flush unless gathering: a pipe's reader is to see a batch when it is complete."""
        self.write_bytes(text.encode("utf-8"))

    def write_bytes(self, data: bytes) -> None:
        """Likewise. Raises TapperError where the output takes no more, as a full disk does; a file then ends with the
        last piece that it took whole, and `ending`."""
        if not data:
            return
        if self._gathered is None:
            self._write([data])
            return
        self._gathered.append(data)
        self._size += len(data)
        if self._size > _MOST_GATHERED:
            self.flush()

    def _write(self, pieces: list[bytes]) -> None:
        data = b"".join(pieces)
        rest = memoryview(data)
        if self._ends is not None:
            self._ends.extend(accumulate(map(len, pieces), initial=os.lseek(self._stream.fileno(), 0, os.SEEK_CUR)))
        try:
            while rest:  # a disk that gets full takes a part, and says so only when asked to take the rest
                rest = rest[self._stream.write(rest) :]
            self._stream.flush()
        except BrokenPipeError:
            raise Closed from None
        except OSError as error:
            self._cut()
            raise TapperError(f"cannot write the output: {explain(error)}") from error

    def _cut(self) -> None:
        """Cut the file back to where a piece ended, as far as is needed to have room for `ending`."""
        if self._ends is None:
            return
        descriptor = self._stream.fileno()
        size = os.fstat(descriptor).st_size
        while self._ends:
            end = self._ends.pop()
            if end > size:
                continue
            try:
                os.ftruncate(descriptor, end)
                if os.pwrite(descriptor, self.ending, end) == len(self.ending):
                    return
                os.ftruncate(descriptor, end)
            except OSError:
                continue  # there is more room where the piece before ended


def _can_be_cut(stream: BinaryIO) -> bool:
    """Whether it is a file that grows at the place where it is written to."""
    try:
        descriptor = stream.fileno()
        appends = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and not appends
    except (OSError, ValueError):  # io.UnsupportedOperation is both: no descriptor
        return False


def open_output(path: str | None) -> Sink:
    """Standard output for None and "-"; else a file that only its owner can read: what goes in was meant for somebody
    else.

    The file is always a new one, which takes the place of an old one of the same owner: others may have the old one
    open, or may have put it there as a link to a file of the node. A device or a FIFO of this user or of root is
    written to as it is. Raises TapperError.
    """
    if path is None or path == "-":
        return Sink(sys.stdout.buffer)
    try:
        descriptor = _replace(path) if _is_to_be_replaced(path) else os.open(path, _WRITING)
    except OSError as error:
        raise TapperError(f"cannot write to {path}: {explain(error)} (-w)") from error
    return Sink(os.fdopen(descriptor, "wb", buffering=0), own=True)


def _is_to_be_replaced(path: str) -> bool:
    """Whether the path is free or has a file that may be replaced; False for a device or a FIFO. Raises TapperError for
    what is another user's, a link, or a folder."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return True
    if stat.S_ISLNK(status.st_mode):
        raise TapperError(f"{path} is a symbolic link, which may lead to a file of the system: name a file itself (-w)")
    if status.st_uid not in {os.geteuid(), 0} or (stat.S_ISREG(status.st_mode) and status.st_uid != os.geteuid()):
        raise TapperError(f"{path} belongs to another user (uid {status.st_uid}): remove it or name another file (-w)")
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return stat.S_ISREG(status.st_mode)


def _replace(path: str) -> int:
    """A new file at this path, opened for writing. Raises OSError."""
    folder, name = os.path.split(path)
    if not name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    # a name that nobody can have prepared, of at most 255 bytes as file systems want it
    new = os.path.join(folder, f".{name[:100]}.{secrets.token_hex(8)}")  # noqa: PTH118 - bytes that are no UTF-8 stay
    descriptor = os.open(new, _WRITING | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.fchmod(descriptor, 0o600)  # whatever the umask is
        os.rename(new, path)  # noqa: PTH104 - as above
    except OSError:
        os.close(descriptor)
        os.unlink(new)  # noqa: PTH108 - as above
        raise
    return descriptor


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
