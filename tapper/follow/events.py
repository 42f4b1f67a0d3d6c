"""What the kernel notifies of between two scans: a process ends (pidfd_open(2)), a process begins a program, an
interface is given an address.

The first two go by process ids, so they need a procfs with the process ids of this PID namespace. Without notifications
the repeated scans find the same, later.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Set
from typing import Any, Protocol, TypeVar

from tapper.capture.sources import Sources
from tapper.discovery import address_events, exec_events
from tapper.errors import explain
from tapper.output.console import Console
from tapper.runtime.descriptors import lasting
from tapper.targets.addresses import Address


class Subscription(Protocol):
    """A descriptor that is readable when there are notifications."""

    def fileno(self) -> int: ...

    def close(self) -> None: ...


S = TypeVar("S", bound=Subscription)
T = TypeVar("T")


class KernelEvents:
    """The notifications. The loop of `sources` waits for them, and calls the callbacks."""

    def __init__(self, sources: Sources[Any], console: Console) -> None:
        self._sources = sources
        self._console = console
        self._pidfds: dict[int, int] = {}
        self._subscriptions: list[Subscription] = []

    @property
    def waits_for_ends(self) -> Set[int]:
        """The processes whose ends are waited for."""
        return self._pidfds.keys()

    def watch_end(self, pid: int, ended: Callable[[int], None]) -> None:
        """Call `ended` with the process id when the process ends."""
        if pid in self._pidfds:
            return
        try:
            descriptor = lasting(os.pidfd_open(pid))
        except ProcessLookupError:
            return
        except OSError as error:
            self._console.warn_once("pidfd", f"deaths are noticed by scanning only: {explain(error)}")
            return

        def end() -> None:
            self.forget_end(pid)
            ended(pid)

        self._pidfds[pid] = descriptor
        self._sources.watch(descriptor, select.POLLIN, end)

    def forget_end(self, pid: int) -> None:
        """Wait for the process's end no longer."""
        descriptor = self._pidfds.pop(pid)
        self._sources.unwatch(descriptor)
        os.close(descriptor)

    def watch_execs(self, began: Callable[[set[int] | None], None]) -> bool:
        """Call `began` with the processes that begin a program, or None where some of them are not known. Returns
        whether the kernel notifies of them."""
        return self._watch("processes", exec_events.subscribe, lambda events: events.pids(), began)

    def watch_addresses(self, given: Callable[[set[Address] | None], None]) -> bool:
        """Call `given` with the addresses that interfaces are given, or None where some of them are not known. Returns
        whether the kernel notifies of them."""
        return self._watch("addresses", address_events.subscribe, lambda events: events.addresses(), given)

    def _watch(
        self, what: str, subscribe: Callable[[], S], read: Callable[[S], T], notify: Callable[[T], None]
    ) -> bool:
        try:
            subscription = subscribe()
        except OSError as error:
            self._console.progress(f"new {what} are noticed by scanning only: {explain(error)}")
            return False

        def take() -> None:
            try:
                news = read(subscription)
            except OSError as error:
                self._console.warn(f"new {what} are noticed by scanning only: {explain(error)}")
                self._sources.unwatch(subscription.fileno())
                return
            notify(news)

        self._subscriptions.append(subscription)
        self._sources.watch(subscription.fileno(), select.POLLIN, take)
        return True

    def release(self) -> None:
        """Close everything. The loop does not run any longer."""
        for subscription in self._subscriptions:
            subscription.close()
        for descriptor in self._pidfds.values():
            os.close(descriptor)
