"""Writes to a pipe, a socket or a terminal without waiting for its reader.

O_NONBLOCK belongs to an open file description (open(2)), which other processes share, for example the shell and the
other end of `2>&1`. So the file is opened once more by its name in /proc, and only the new description has the flag.
A socket cannot be opened by a name; send(2) has MSG_DONTWAIT instead.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import stat
import time
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

Write: TypeAlias = Callable[[memoryview], int]
"""Writes a part of the bytes, at least one, and returns their number. Raises OSError, BlockingIOError among others."""

_PIECE = 64 << 10  # bytes, the size of most pipes


class Outlet:
    """Bytes on their way to a reader. `most` of them may wait; further pieces are dropped and counted."""

    def __init__(self, write: Write, close: Callable[[], None], descriptor: int, most: int) -> None:
        self._write = write
        self.close = close
        self._descriptor = descriptor
        self._most = most
        self._queue: deque[memoryview] = deque()
        self.waiting = 0
        """Bytes that the reader has not taken."""
        self.dropped = 0
        """Pieces that found no room."""

    def write(self, data: bytes) -> None:
        """Write a piece now as far as the reader takes it. Raises OSError for any other reason than a full pipe."""
        if self.waiting and self.waiting + len(data) > self._most:
            self.dropped += 1
            return
        self._queue.append(memoryview(data))
        self.waiting += len(data)
        self.go_on()

    def go_on(self) -> None:
        """Write what waits, as far as the reader takes it. Raises as `write` does."""
        while self._queue:
            piece = self._queue[0]
            try:
                written = self._write(piece[:_PIECE])
            except BlockingIOError:
                return
            self.waiting -= written
            if written == len(piece):
                self._queue.popleft()
            else:
                self._queue[0] = piece[written:]

    def finish(self, patience_s: float, longest_s: float) -> None:
        """Wait until nothing waits; no longer than `patience_s` for a reader that takes nothing, and than `longest_s`
        in all. Raises as `write` does."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        end = time.monotonic() + longest_s
        while self.waiting:
            left = min(patience_s, end - time.monotonic())
            if left <= 0 or not poll.poll(left * 1000):
                return
            self.go_on()


def open_outlet(descriptor: int, most: int) -> Outlet | None:
    """An outlet for the file of this descriptor, which has to stay open. None for a file on a disk, which takes
    everything at once, for a file that is open for reading only, and for one that this process may not open again."""
    try:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            return None
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(mode):
            sock = socket.socket(fileno=os.dup(descriptor))
            flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
            return Outlet(lambda data: sock.send(data, flags), sock.close, descriptor, most)
        if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
            return None
        name = f"/proc/self/fd/{descriptor}"
        another = os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    return Outlet(lambda data: os.write(another, data), lambda: os.close(another), descriptor, most)
