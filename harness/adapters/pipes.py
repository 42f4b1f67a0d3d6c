"""The pipes of a tapper that runs: its standard output, and the descriptor for readiness."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable

_CHUNK = 1 << 16
_LOOK_UP_MS = 200
_MOST_ROUNDS = 4


class Pipes:
    """One thread reads both as data come, and wakes the caller that waits for news.

    `take` gets each piece of standard output, and an empty one at its end. The thread reads from a copy of `stdout`,
    which may be closed at any time, and its number reused. The thread owns the descriptor `ready`, and closes it once
    something came on it, or nothing can come any more.
    """

    def __init__(self, stdout: int, ready: int, take: Callable[[bytes], None]) -> None:
        self._stdout = os.dup(stdout)
        self._ready = ready
        self._take = take
        self._news = threading.Event()
        self._let_go = threading.Event()
        self._held = threading.Event()
        self._holding = threading.Event()
        self.said_ready = False
        """Whether the tapper has written to the descriptor for readiness."""
        self.closed = False
        """Whether its standard output has ended: no more can come that way."""
        self._thread = threading.Thread(target=self._listen, name="tapper-output", daemon=True)
        self._thread.start()

    def wait_for_news(self, seconds: float) -> bool:
        """Return when something has come since the last call, or False after so many seconds. For one thread."""
        come = self._news.wait(seconds)
        self._news.clear()
        return come

    def hold(self) -> None:
        """Do not read standard output until `go_on`: the pipe fills up. Its end is still noticed."""
        self._holding.clear()
        self._held.set()
        self._holding.wait(2 * _LOOK_UP_MS / 1000)  # bounded, because the thread may have ended

    def go_on(self) -> None:
        """Read standard output again."""
        self._held.clear()

    def finish(self, seconds: float) -> None:
        """Read the rest, as long as something comes within so many seconds: a hidden process may hold standard output
        open, and a busy machine may be slow to read."""
        self._let_go.set()
        for _ in range(_MOST_ROUNDS):
            self._news.clear()
            self._thread.join(seconds)
            if not (self._thread.is_alive() and self._news.is_set()):
                return

    def _listen(self) -> None:
        poller = select.poll()
        poller.register(self._stdout, select.POLLIN)
        poller.register(self._ready, select.POLLIN)
        waiting_for_ready = True
        while waiting_for_ready or not self.closed:
            if not self.closed:
                poller.modify(self._stdout, 0 if self._held.is_set() else select.POLLIN)
            if self._held.is_set():
                self._holding.set()
            happened = {fd for fd, _ in poller.poll(_LOOK_UP_MS)}
            if self._ready in happened:
                self.said_ready = bool(os.read(self._ready, 1))
            if waiting_for_ready and (self._ready in happened or (self.closed and self._let_go.is_set())):
                waiting_for_ready = False
                poller.unregister(self._ready)
                os.close(self._ready)
            if self._stdout in happened:
                data = os.read(self._stdout, _CHUNK)
                self._take(data)
                if not data:
                    self.closed = True
                    poller.unregister(self._stdout)
                    os.close(self._stdout)
            if happened:
                self._news.set()
