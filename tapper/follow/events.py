"""What the kernel tells while nobody looks: that a process has died (pidfd_open(2)), that one has begun, that an
interface was given an address.

The first two go by process ids, so they are for a procfs whose numbers mean the same here. Without any of them looking
at all processes from time to time has to do, and does.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Set
from typing import Any

from tapper.capture.sources import Sources
from tapper.discovery import address_events
from tapper.discovery.address_events import AddressEvents
from tapper.discovery.exec_events import ExecEvents, subscribe
from tapper.errors import explain
from tapper.output.sink import Console
from tapper.targets.addresses import Address


class Processes:
    """The processes that are watched. `changed` is called, by the loop of `sources`, when a look is worth it: with the
    process that has died or begun, or None for any of them."""

    def __init__(self, sources: Sources[Any], console: Console, changed: Callable[[int | None], None]) -> None:
        self._sources = sources
        self._console = console
        self._changed = changed
        self._enabled = False
        self._pidfds: dict[int, int] = {}
        self._execs: ExecEvents | None = None
        self._addresses: AddressEvents | None = None

    def __contains__(self, pid: int) -> bool:
        """Whether its death is waited for."""
        return pid in self._pidfds

    @property
    def hears_births(self) -> bool:
        """Whether the kernel tells of every program that begins."""
        return self._execs is not None

    def enable(self) -> None:
        """Process ids mean here what they mean in the procfs. Before this nothing is watched."""
        self._enabled = True

    def watch_death(self, pid: int) -> None:
        if not self._enabled or pid in self._pidfds:
            return
        try:
            descriptor = os.pidfd_open(pid)
        except OSError as error:
            if not isinstance(error, ProcessLookupError):
                self._console.warn_once("pidfd", f"deaths are noticed by scanning only: {error.strerror}")
            return
        self._pidfds[pid] = descriptor
        self._sources.watch(descriptor, select.POLLIN, lambda: self._died(pid))

    def watch_births(self, is_news: Callable[[int], bool]) -> None:
        """`is_news` is given the pid of every program that begins, and tells whether that is worth a look."""
        if not self._enabled:
            return
        try:
            execs = subscribe()
        except OSError as error:
            self._console.progress(f"new processes are noticed by scanning only: {explain(error)}")
            return
        self._execs = execs
        self._sources.watch(execs.fileno(), select.POLLIN, lambda: self._began(execs, is_news))

    def watch_addresses(self, given: Callable[[Set[Address] | None], None]) -> None:
        """`given` gets addresses that interfaces anywhere were given, None where there may be more."""
        try:
            events = address_events.subscribe()
        except OSError as error:
            self._console.progress(f"new addresses are noticed by scanning only: {explain(error)}")
            return
        self._addresses = events
        self._sources.watch(events.fileno(), select.POLLIN, lambda: self._given(events, given))

    def forget(self, pids: Set[int]) -> None:
        """Whether these die is of no interest any more."""
        for pid in pids & self._pidfds.keys():
            self._forget(pid)

    def release(self) -> None:
        """Let go of everything; the loop is not run any more."""
        if self._execs is not None:
            self._execs.close()
        if self._addresses is not None:
            self._addresses.close()
        for descriptor in self._pidfds.values():
            os.close(descriptor)

    def _died(self, pid: int) -> None:
        self._forget(pid)
        self._changed(pid)

    def _forget(self, pid: int) -> None:
        descriptor = self._pidfds.pop(pid)
        self._sources.unwatch(descriptor)
        os.close(descriptor)

    def _began(self, execs: ExecEvents, is_news: Callable[[int], bool]) -> None:
        try:
            pids = execs.pids()
        except OSError as error:
            self._console.warn(f"new processes are noticed by scanning only: {explain(error)}")
            self._sources.unwatch(execs.fileno())
            execs.close()
            self._execs = None
            self._changed(None)
            return
        if pids is None:
            self._changed(None)
        for pid in pids or ():
            if is_news(pid):
                self._changed(pid)

    def _given(self, events: AddressEvents, given: Callable[[Set[Address] | None], None]) -> None:
        try:
            addresses = events.addresses()
        except OSError as error:
            self._console.warn(f"new addresses are noticed by scanning only: {explain(error)}")
            self._sources.unwatch(events.fileno())
            return
        given(addresses)
