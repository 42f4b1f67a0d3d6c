"""Calling functions on threads that end with the call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from tapper.errors import TapperError

T = TypeVar("T")

NO_THREAD = "no further thread can be started: raise the limit of processes (ulimit -u, pids.max of its cgroup)"


def on_threads(functions: Sequence[Callable[[], T]], most: int = 1) -> list[T | TapperError]:
    """Call each function on one of at most `most` new threads, and return when all threads have ended.

    The results are in the order of the functions. A TapperError that a function raises is its result, and the thread
    goes on to the next function. Any other exception ends its thread and is raised here. One thread is enough for
    functions that compute; functions that wait in the kernel can wait at the same time.
    """
    results: list[T | TapperError] = [TapperError(NO_THREAD)] * len(functions)
    failures: list[BaseException] = []
    remaining = iter(range(len(functions)))  # the next() of a built-in iterator is atomic, so threads can share it

    def work() -> None:
        try:
            for index in remaining:
                try:
                    results[index] = functions[index]()
                except TapperError as error:
                    results[index] = error
        except BaseException as error:
            failures.append(error)

    started: list[threading.Thread] = []
    for _ in range(min(most, len(functions))):
        thread = threading.Thread(target=work, name="tapper-work")
        try:
            thread.start()
        except RuntimeError:  # the kernel grants no further thread: those that run do all the work
            break
        started.append(thread)
    for thread in started:
        thread.join()
    if failures:
        raise failures[0]
    return results
