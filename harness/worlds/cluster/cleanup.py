"""The objects of a run, and their removal: in reverse order, on every way out, with a message for each."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.errors import Leak


class Ledger:
    """Objects are entered before they are made, so that an interruption in between leaves nothing."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._entries: list[tuple[str, Callable[[], bool]]] = []

    def enter(self, name: str, remove: Callable[[], bool]) -> None:
        """`remove` returns False if there was nothing to remove."""
        self._entries.append((name, remove))

    def clear(self) -> None:
        """Remove everything, going on after a failure. Raises Leak that names what could not be removed."""
        failures = []
        with uninterrupted(self._say):
            while self._entries:
                name, remove = self._entries.pop()
                try:
                    if remove():
                        self._say(f"removed {name}")
                except Exception as error:  # the others have to go, whatever the error was
                    self._say(f"could not remove {name}: {error}")
                    failures.append(f"{name} ({error})")
        if failures:
            raise Leak(f"left behind: {'; '.join(failures)}")


@contextmanager
def uninterrupted(say: Callable[[str], None]) -> Iterator[None]:
    """Acknowledge Ctrl-C, and go on with the clean-up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: say("removing what was made; this ends by itself"))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def ending_by_sigterm() -> Iterator[None]:
    """Make SIGTERM end the run like Ctrl-C, with clean-up."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
