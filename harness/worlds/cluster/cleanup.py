"""What a run has made, and taking it away again: in reverse order, on every way out, and said."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.errors import Leak


class Ledger:
    """Things are entered before they are made, so that an interruption in between leaves nothing."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._entries: list[tuple[str, Callable[[], bool]]] = []

    def enter(self, name: str, remove: Callable[[], bool]) -> None:
        """`remove` returns False where there was nothing to remove."""
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
                except Exception as error:  # whatever it was, the others are to go
                    self._say(f"could not remove {name}: {error}")
                    failures.append(f"{name} ({error})")
        if failures:
            raise Leak(f"left behind: {'; '.join(failures)}")


@contextmanager
def uninterrupted(say: Callable[[str], None]) -> Iterator[None]:
    """Ctrl-C says that it was heard, and clean-up goes on."""
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
    """SIGTERM ends the run as Ctrl-C does, and so not without clean-up."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
