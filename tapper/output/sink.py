"""Writing records to standard output or to a file."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import BinaryIO

from tapper.errors import TapperError, explain
from tapper.output.outlet import Outlet, open_outlet

_MOST_GATHERED = 1 << 20
_ENDS_KEPT = 4096
_LAG = 256 << 10
"""Bytes that wait for the output's reader before the rings are left to wait, too."""
_MOST_WAITING = 64 << 20
"""Bytes that may wait for the output's reader: sources that close and the end of the run write in any case."""
_PATIENCE_S, _LONGEST_S = 1.0, 2.5
"""At the end of the run: for a reader that takes nothing, and for any reader."""
_WRITING = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW


class Closed(Exception):
    """The reader of the output has closed it. This is not an error."""


class Sink:
    """The output. As a context manager it closes the stream, if `own` is true."""

    def __init__(self, stream: BinaryIO, *, own: bool = False) -> None:
        self._stream = stream
        self._own = own
        self._gathered: list[bytes] | None = None
        self._size = 0
        self.ending = b""
        """The bytes that complete the output after any record. They are written when a disk is full."""
        self._ends: deque[int] | None = deque(maxlen=_ENDS_KEPT) if _can_be_cut(stream) else None
        """The file offsets at which the last pieces end; None if the output cannot be cut."""
        self._outlet: Outlet | None = None

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *_: object) -> None:
        if self._outlet is not None:
            self._outlet.close()
        if self._own:
            self._stream.close()

    def fileno(self) -> int:
        return self._stream.fileno()

    # Readers that are slow.

    def do_not_wait(self) -> None:
        """From now on writing does not wait for the reader of a pipe, a socket or a terminal. What the reader has not
        taken yet is kept; `go_on` and `finish` write it."""
        self._outlet = open_outlet(self.fileno(), _MOST_WAITING)

    @property
    def waiting(self) -> int:
        """Bytes that the reader has not taken yet."""
        return 0 if self._outlet is None else self._outlet.waiting

    @property
    def lags(self) -> bool:
        """Whether so much waits for the reader that nothing should be written that can wait elsewhere."""
        return self.waiting > _LAG

    def go_on(self) -> None:
        """Write what waits, when the reader takes more (POLLOUT). Raises as `write_bytes` does."""
        if self._outlet is not None:
            with _said():
                self._outlet.go_on()

    def finish(self) -> None:
        """Wait, for a few seconds at most, until the reader has taken everything. Raises as `write_bytes` does, and
        TapperError where it has not."""
        outlet = self._outlet
        if outlet is None:
            return
        with _said():
            outlet.finish(_PATIENCE_S, _LONGEST_S)
        if outlet.waiting or outlet.dropped:
            raise TapperError(
                f"the output is incomplete: its reader has not taken the last {outlet.waiting} bytes, and "
                f"{outlet.dropped} records found no room before; read it faster, or write to a file (-w)"
            )

    def gather(self) -> None:
        """From now on gather what is written, up to 1 MiB, until `flush`."""
        self._gathered = []

    def flush(self) -> None:
        """Write what was gathered. Raises as `write_bytes` does."""
        if self._gathered:
            pieces, self._gathered, self._size = self._gathered, [], 0
            self._write(pieces)

    def write(self, text: str) -> None:
        """Write complete records. Flushes them unless gathering, so that the reader of a pipe gets them at once."""
        self.write_bytes(text.encode("utf-8"))

    def write_bytes(self, data: bytes) -> None:
        """The same for bytes.

        Raises Closed if the reader has closed the output, and TapperError if the output cannot be written, for example
        because the disk is full. A file then ends with the last piece that was written completely, and `ending`.
        """
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
        if self._outlet is not None:
            with _said():
                self._outlet.write(data)
            return
        rest = memoryview(data)
        if self._ends is not None:
            self._ends.extend(accumulate(map(len, pieces), initial=os.lseek(self._stream.fileno(), 0, os.SEEK_CUR)))
        with _said():
            try:
                while rest:  # a full disk takes a part of the data, and gives an error only for the rest
                    rest = rest[self._stream.write(rest) :]
                self._stream.flush()
            except OSError:
                self._cut()
                raise

    def _cut(self) -> None:
        """Cut the file back to the end of a piece, as far as needed to make room for `ending`."""
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
                continue  # cut off one more piece to get more room


@contextmanager
def _said() -> Iterator[None]:
    """Turn the kernel's refusals to write into Closed and TapperError."""
    try:
        yield
    except BrokenPipeError:
        raise Closed from None
    except OSError as error:
        raise TapperError(f"cannot write the output: {explain(error)}") from error


def _can_be_cut(stream: BinaryIO) -> bool:
    """True for a regular file that is not opened for appending."""
    try:
        descriptor = stream.fileno()
        appends = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and not appends
    except (OSError, ValueError):  # io.UnsupportedOperation is both: no descriptor
        return False


def open_output(path: str | None) -> Sink:
    """The output of -w: standard output for None and "-", else a file that only its owner can read, since the traffic
    is other people's.

    The file is always new, and replaces an old one of the same owner: other users may have the old one open, or may
    have put it there as a link to a file of the node. A device or a FIFO of this user or of root is opened as it is.
    Raises TapperError.
    """
    if path is None or path == "-":
        return Sink(sys.stdout.buffer)
    try:
        descriptor = _replace(path) if _is_to_be_replaced(path) else os.open(path, _WRITING)
    except OSError as error:
        raise TapperError(f"cannot write to {path}: {explain(error)} (-w)") from error
    return Sink(os.fdopen(descriptor, "wb", buffering=0), own=True)


def _is_to_be_replaced(path: str) -> bool:
    """True if nothing has this path, or a file that may be replaced; False for a device or a FIFO. Raises TapperError
    for a file of another user and for a link, and OSError for a folder."""
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
    # A name that nobody can guess, of at most 255 bytes, the limit of file systems.
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
