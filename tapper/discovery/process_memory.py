"""Reading the files of procfs that the kernel copies out of a process's own memory: environ and cmdline (proc(5)).

The process decides how long such a file is: prctl(2) with PR_SET_MM moves its ends to anywhere in the process's
memory. The process also decides how long a read takes: the kernel waits for the lock of that memory, and for the
storage that a page comes from. So both are bounded here: no more than LARGEST bytes are read, and the caller waits no
longer than PATIENCE_S. A thread that is stuck in such a read is left behind until the kernel lets it go.
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
"""In bytes. execve(2) takes no more arguments and environment than this: three quarters of _STK_LIM (fs/exec.c). What
is larger was made by prctl(2)."""
PATIENCE_S: Final = 0.25
"""How long one read may take. A usual one takes 20 microseconds, and one of LARGEST bytes some milliseconds."""
SHORT_PATIENCE_S: Final = 0.01
"""The same where reads have lately been waited for in vain, for more than WAITING_S in all."""
WAITING_S: Final = 1.0
"""How long may be waited in vain in RECOVERY_S."""
RECOVERY_S: Final = 60.0
RETRY_S: Final = 10.0
"""How long a file is left alone whose read did not come to its end in time."""
MOST_STUCK: Final = 64
"""Threads that may wait in the kernel for the memory of hostile processes at one time."""
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
        """The files whose reads were waited for in vain, oldest first -> when, by time.monotonic."""

    def read(self, path: str, most: int | None = None) -> bytes:
        """The file to its end, or its first `most` bytes.

        Raises OSError: EFBIG for a file of more than `largest` bytes, ETIMEDOUT for a read that does not come to its
        end in time, EAGAIN where no thread can be had for it, and whatever the kernel says.
        """
        now = time.monotonic()
        if now - self._late.get(path, -math.inf) < RETRY_S:
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), path)
        reader = self._reader or self._start()
        self._reader = None  # taken back only when it has answered
        reader.orders.put((path, self._largest if most is None else most, most is None))
        try:
            answer = reader.answers.get(timeout=self._patience(now))
        except Empty:
            reader.orders.put(None)  # it ends when the kernel lets it go
            self._stuck.append(reader)
            self._give_up(path, now)
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), path) from None
        self._reader = reader
        self._late.pop(path, None)
        if isinstance(answer, OSError):
            raise answer
        return answer

    def _patience(self, now: float) -> float:
        """How long to wait for the next read, in seconds: hostile processes must not hold up whoever reads."""
        recent = sum(now - when < RECOVERY_S for when in self._late.values())
        return SHORT_PATIENCE_S if recent * self._patience_s > WAITING_S else self._patience_s

    def _give_up(self, path: str, now: float) -> None:
        self._late[path] = now
        self._late.move_to_end(path)
        while len(self._late) > _MOST_LATE:
            self._late.popitem(last=False)

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
        except RuntimeError:  # what threading raises where the kernel grants no further thread
            raise OSError(errno.EAGAIN, "no thread can be started to read it") from None
        return reader


class _Reader(threading.Thread):
    """A thread that reads what it is ordered to, in order, and answers each order; None ends it."""

    def __init__(self) -> None:
        super().__init__(name="process-memory", daemon=True)  # a stuck one must not keep the program from ending
        self.orders: SimpleQueue[tuple[str, int, bool] | None] = SimpleQueue()
        self.answers: SimpleQueue[bytes | OSError] = SimpleQueue()

    def run(self) -> None:
        while (order := self.orders.get()) is not None:
            try:
                self.answers.put(_read(*order))
            except OSError as error:
                self.answers.put(error)


def _read(path: str, most: int, whole: bool) -> bytes:
    """At most `most` bytes of a file; raises EFBIG where it is to be read whole and is longer."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = bytearray()
        while len(data) <= most:  # read(2) on procfs may return less than there is
            part = os.read(file, min(_AT_ONCE, most + 1 - len(data)))
            if not part:
                return bytes(data)
            data += part
    finally:
        os.close(file)
    if whole:
        raise OSError(errno.EFBIG, f"longer than {most} bytes", path)
    return bytes(data[:most])
