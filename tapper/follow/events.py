"""What the kernel notifies of between two scans: a process ends (pidfd_open(2)), a process begins a program, an
interface is given an address.

The first two go by process ids, so they need a procfs with the process ids of this PID namespace. Without notifications
the repeated scans find the same, later.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Set
from typing import Any

from tapper.capture.sources import Sources
from tapper.discovery import address_events, exec_events
from tapper.discovery.address_events import AddressEvents
from tapper.discovery.exec_events import ExecEvents
from tapper.errors import explain
from tapper.output.sink import Console
from tapper.targets.addresses import Address


class KernelEvents:
    """The notifications. The loop of `sources` waits for them, and calls the callbacks."""

    def __init__(self, sources: Sources[Any], console: Console) -> None:
        self._sources = sources
        self._console = console
        self._pidfds: dict[int, int] = {}
        self._execs: ExecEvents | None = None
        self._addresses: AddressEvents | None = None

    @property
    def waits_for_ends(self) -> Set[int]:
        """The processes whose ends are waited for."""
        return self._pidfds.keys()

    @property
    def has_execs(self) -> bool:
        """Whether the kernel notifies of every program that begins."""
        return self._execs is not None

    def watch_end(self, pid: int, ended: Callable[[int], None]) -> None:
        """Call `ended` with the process id when the process ends."""
        if pid in self._pidfds:
            return
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        except OSError as error:
            self._console.warn_once("pidfd", f"deaths are noticed by scanning only: {error.strerror}")
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

    def watch_execs(self, began: Callable[[set[int] | None], None]) -> None:
        """Call `began` with the processes that begin a program, or None where some of them are not known."""
        try:
            execs = self._execs = exec_events.subscribe()
        except OSError as error:
            self._console.progress(f"new processes are noticed by scanning only: {explain(error)}")
            return
        self._sources.watch(execs.fileno(), select.POLLIN, lambda: began(execs.pids()))

    def watch_addresses(self, given: Callable[[set[Address] | None], None]) -> None:
        """Call `given` with the addresses that interfaces are given, or None where some of them are not known."""
        try:
            events = self._addresses = address_events.subscribe()
        except OSError as error:
            self._console.progress(f"new addresses are noticed by scanning only: {explain(error)}")
            return

        def read() -> None:
            try:
                addresses = events.addresses()
            except OSError as error:
                self._console.warn(f"new addresses are noticed by scanning only: {explain(error)}")
                self._sources.unwatch(events.fileno())
                return
            given(addresses)

        self._sources.watch(events.fileno(), select.POLLIN, read)

    def release(self) -> None:
        """Close everything. The loop does not run any longer."""
        for events in (self._execs, self._addresses):
            if events is not None:
                events.close()
        for descriptor in self._pidfds.values():
            os.close(descriptor)
