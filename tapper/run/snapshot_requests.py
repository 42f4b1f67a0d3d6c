"""Lets other threads ask the loop: they wait, the loop answers between two of its turns.

So whoever asks sees counts that belong together, no lock is taken for a packet, and a ring, which is not for several
threads, is read by the loop alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Enquiry(Generic[T]):
    """`ask` from any thread; `fileno`, `answer` and `close` are the loop's."""

    def __init__(self) -> None:
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._asked: list[Future[T]] = []
        self._closed = False

    def ask(self, timeout_s: float) -> T:
        """Raises TimeoutError where nobody answers in time, as when the output's reader stops reading, or at all."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise TimeoutError("nobody answers any longer")
            self._asked.append(future)
            os.eventfd_write(self._wake, 1)
        return future.result(timeout_s)

    def fileno(self) -> int:
        """For polling: readable when somebody has asked. `answer` it then."""
        return self._wake

    def answer(self, make: Callable[[], T]) -> None:
        """Everybody who has asked gets the same answer."""
        os.eventfd_read(self._wake)
        with self._lock:
            asked, self._asked = self._asked, []
        answer = make()
        for future in asked:
            future.set_result(answer)

    def close(self) -> None:
        """Whoever waits is told that no answer will come."""
        with self._lock:
            self._closed = True
            asked, self._asked = self._asked, []
            os.close(self._wake)
        for future in asked:
            future.set_exception(TimeoutError("nobody answers any longer"))
