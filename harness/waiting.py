"""Waiting by probe and deadline, never by a bare sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from harness.errors import WaitTimeout

T = TypeVar("T")

DEFAULT_TIMEOUT = 30.0  # a long deadline costs nothing on success, and machines can be slow
_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.05


def wait_until(
    probe: Callable[[], T | None],
    what: str,
    timeout: float = DEFAULT_TIMEOUT,
    logs: Callable[[], str] | None = None,
    pause: Callable[[float], object] = time.sleep,
) -> T:
    """Call `probe` until it returns something true and return that.

    The pause between calls grows from 1 ms to 50 ms; `pause` may end it early, when it knows that something has come.
    After `timeout` seconds (monotonic) raise `WaitTimeout` that names `what`, the last thing the probe returned, and
    the text of `logs`.
    """
    deadline = time.monotonic() + timeout
    length = _FIRST_PAUSE
    while True:
        seen = probe()
        if seen:
            return seen
        if time.monotonic() >= deadline:
            raise WaitTimeout(_sentence(what, timeout, seen, logs))
        pause(length)
        length = min(length * 1.5, _LONGEST_PAUSE)


def _sentence(what: str, timeout: float, seen: object, logs: Callable[[], str] | None) -> str:
    text = f"waited {timeout:g} s for {what}, in vain"
    if seen is not None and seen is not False:
        text += f" (last seen: {seen!r})"
    if logs is not None:
        text += "\n--- log ---\n" + (logs().strip() or "(empty)")
    return text
