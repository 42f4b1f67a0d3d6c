"""Reading the files of procfs that the kernel copies out of a process's own memory: environ and cmdline (proc(5)).

The process controls how long such a file is: prctl(2) with PR_SET_MM moves its ends to anywhere in the process's
memory. The process also controls how long a read takes: the kernel waits for the lock of that memory, and for the
storage that a page comes from. So both are bounded: at most LARGEST bytes are read, and the caller waits at most
PATIENCE_S. A thread that is stuck in such a read is abandoned until the kernel releases it.
"""

from __future__ import annotations

import errno
import math
import os
import threading
import time
from collections import OrderedDict
from queue import Empty, SimpleQueue
from typing import Final

LARGEST: Final = 6 << 20
"""In bytes. execve(2) accepts at most three quarters of _STK_LIM as arguments and environment (fs/exec.c); only
prctl(2) makes more."""
PATIENCE_S: Final = 0.25
"""How long one read may take. A usual one takes 20 microseconds, and one of LARGEST bytes some milliseconds."""
SHORT_PATIENCE_S: Final = 0.01
"""The same once reads have been waited for in vain for WAITING_S within RECOVERY_S."""
WAITING_S: Final = 1.0
RECOVERY_S: Final = 60.0
RETRY_S: Final = 10.0
"""How long a file is not read again after its read took too long."""
MOST_STUCK: Final = 64
"""Threads that may be stuck in the kernel at one time."""
_MOST_LATE = 4096
_AT_ONCE = 64 << 10


class ProcessMemory:
    """Reads such files on a thread of its own. Construction starts nothing. Not for several threads."""

    def __init__(self, largest: int = LARGEST, patience_s: float = PATIENCE_S) -> None:
        self._largest = largest
        self._patience_s = patience_s
        self._reader: _Reader | None = None
        self._stuck: list[_Reader] = []
        self._late: OrderedDict[str, float] = OrderedDict()
        """The files whose reads took too long, oldest first, and when, by time.monotonic."""

    def read(self, path: str, most: int | None = None) -> bytes:
        """The whole file, or its first `most` bytes.

        Raises OSError: EFBIG for a file of more than `largest` bytes, ETIMEDOUT for a read that takes too long, EAGAIN
        where no thread can be started for it, and the kernel's own errors.
        """
        # 1. Leave a file alone that was late a moment ago.
        now = time.monotonic()
        if now - self._late.get(path, -math.inf) < RETRY_S:
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), path)
        # 2. Let the thread read it, and wait.
        reader = self._reader or self._start()
        self._reader = None
        reader.orders.put((path, self._largest if most is None else most, most is None))
        late = sum(now - when < RECOVERY_S for when in self._late.values())
        patience_s = SHORT_PATIENCE_S if late * self._patience_s > WAITING_S else self._patience_s
        try:
            answer = reader.answers.get(timeout=patience_s)
        except Empty:
            # 3. Too late: abandon the thread. It ends when the kernel releases it.
            reader.orders.put(None)
            self._stuck.append(reader)
            self._late[path] = now
            self._late.move_to_end(path)
            if len(self._late) > _MOST_LATE:
                self._late.popitem(last=False)
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), path) from None
        # 4. In time: keep the thread for the next read.
        self._reader = reader
        self._late.pop(path, None)
        if isinstance(answer, OSError):
            raise answer
        return answer

    def close(self) -> None:
        """Let the thread end."""
        if self._reader is not None:
            self._reader.orders.put(None)
            self._reader = None

    def _start(self) -> _Reader:
        self._stuck = [reader for reader in self._stuck if reader.is_alive()]
        if len(self._stuck) >= MOST_STUCK:
            raise OSError(errno.EAGAIN, f"{MOST_STUCK} reads of other processes' memory do not end")
        reader = _Reader()
        try:
            reader.start()
        except RuntimeError:  # the kernel grants no further thread
            raise OSError(errno.EAGAIN, "no thread can be started to read it") from None
        return reader


class _Reader(threading.Thread):
    """A thread that reads files in the order of its orders, and answers each; None ends it."""

    def __init__(self) -> None:
        super().__init__(name="process-memory", daemon=True)  # a stuck thread must not keep the program from ending
        self.orders: SimpleQueue[tuple[str, int, bool] | None] = SimpleQueue()
        self.answers: SimpleQueue[bytes | OSError] = SimpleQueue()

    def run(self) -> None:
        while (order := self.orders.get()) is not None:
            try:
                self.answers.put(_read(*order))
            except OSError as error:
                self.answers.put(error)


def _read(path: str, most: int, whole: bool) -> bytes:
    """The first `most` bytes of a file; raises EFBIG where the `whole` file was asked for and is longer."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = bytearray()
        while len(data) <= most:  # read(2) on procfs may return less than there is
            part = os.read(file, min(_AT_ONCE, most + 1 - len(data)))
            if not part:
                return bytes(data)
            data += part
            if whole and len(data) == _AT_ONCE and os.pread(file, 1, most):  # one page tells that it is too large
                break
    finally:
        os.close(file)
    if whole:
        raise OSError(errno.EFBIG, f"longer than {most} bytes", path)
    return bytes(data[:most])
