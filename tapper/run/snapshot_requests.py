"""Requests of other threads to the loop, for instance for the counts that `--metrics` serves.

The loop answers between two turns. So counts belong together, no packet takes a lock, and only the loop's thread reads
a ring.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class SnapshotRequests(Generic[T]):
    """Any thread may call `ask`; the other methods are the loop's."""

    def __init__(self) -> None:
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._waiting: list[Future[T]] = []
        self._closed = False

    def ask(self, timeout_s: float) -> T:
        """Raises TimeoutError if the loop does not answer in time, as when the output blocks, or has ended."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise TimeoutError("the loop has ended")
            self._waiting.append(future)
            os.eventfd_write(self._wake, 1)
        return future.result(timeout_s)

    def fileno(self) -> int:
        """A descriptor that is readable while a request waits for `answer`."""
        return self._wake

    def answer(self, make: Callable[[], T]) -> None:
        """Give all waiting requests the same answer."""
        os.eventfd_read(self._wake)
        with self._lock:
            waiting, self._waiting = self._waiting, []
        answer = make()
        for future in waiting:
            future.set_result(answer)

    def close(self) -> None:
        """No more requests are answered."""
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, []
            os.close(self._wake)
        for future in waiting:
            future.set_exception(TimeoutError("the loop has ended"))
