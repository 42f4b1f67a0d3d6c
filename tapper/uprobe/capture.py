"""`tapper tap --tls`: the rings of the captured pods, and the programs at the functions of their processes'
libraries."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from tapper.discovery.exec_events import ExecEvents, subscribe
from tapper.discovery.procfs import Procfs
from tapper.errors import TapperError, explain
from tapper.namespaces.identity import NamespaceId
from tapper.output.records import TlsProcess
from tapper.uprobe.libraries import NAMES
from tapper.uprobe.probes import Probes
from tapper.uprobe.processes import TlsProcesses
from tapper.uprobe.readable import LIBRARY
from tapper.uprobe.ring import ProbeRing
from tapper.uprobe.segments import Segments
from tapper.uprobe.selftest import open_probes

_RING_MEMORY: Final = 128 << 20
_SMALLEST_RING, _LARGEST_RING = 1 << 18, 16 << 20
"""Bytes. A ring gets an eighth of what is left of the memory, as a power of two."""
_INTERVAL_S: Final = 2.0
"""From one look at all processes to the next. What begins meanwhile is known from the kernel's records."""
_PAUSES: Final = 3
"""A look is followed by a pause of so many times its own length: a pod that begins processes without end must not keep
the tapper busy."""


class TlsCapture:
    """A `tapper.run.plaintext.PlaintextCapture`; made by `open_capture`."""

    libraries = NAMES

    def __init__(self, procfs: Procfs, probes: Probes, events: ExecEvents | None) -> None:
        self._probes = probes
        self._events = events
        self._processes = TlsProcesses(procfs, probes.attach, probes.detach, probes.began_in)
        self._rings: list[ProbeRing] = []
        self._ended: set[int] = set()
        """Processes of which the maps of the programs may still have something."""
        self._began: dict[int, str] | None = None
        """Processes that have begun a program, by its path, or mapped a library since the last look; None where some
        are not known."""
        self._next_look = 0.0
        """When to look at all processes again, by time.monotonic."""
        self._earliest = 0.0
        """Until when nothing is looked at, however many processes begin."""

    @property
    def next_look(self) -> float:
        return self._earliest if self._began or self._began is None else self._next_look

    def fileno(self) -> int | None:
        return None if self._events is None else self._events.fileno()

    def take_events(self) -> None:
        assert self._events is not None, "without records there is no descriptor"
        programs = self._events.programs()
        self._began = None if programs is None or self._began is None else self._began | programs

    def open(self, netns: NamespaceId) -> ProbeRing:
        self._rings = [ring for ring in self._rings if not ring.closed]
        share = (_RING_MEMORY - sum(ring.size for ring in self._rings)) // 8
        size = _SMALLEST_RING
        while 2 * size <= min(share, _LARGEST_RING):
            size *= 2
        try:
            ring = ProbeRing(self._probes, netns.inode, size, Segments(self._ended.add))
        except OSError as error:
            raise TapperError(f"cannot take the plaintext of a pod's TLS: {explain(error)} (--tls)") from error
        self._rings.append(ring)
        self._began = None
        return ring

    def look(self, pods: Mapping[NamespaceId, str]) -> list[TlsProcess]:
        if self._ended:
            self._probes.forget(self._ended)
            self._ended.clear()
        began, self._began = self._began, {}
        started = time.monotonic()
        found: list[TlsProcess] = []
        if began:
            found += self._processes.look_at(began, pods)
        if not began or started >= self._next_look:
            self._next_look = started + _INTERVAL_S
            found += self._processes.look(pods, everything=began is None or self._events is None)
        now = time.monotonic()
        self._earliest = now + _PAUSES * (now - started)
        return found

    def close(self) -> None:
        self._probes.close()
        if self._events is not None:
            self._events.close()


def open_capture(procfs: Procfs) -> TlsCapture:
    """Raises TapperError, and MissingCapabilityError, where probes do not work here."""
    probes = open_probes()
    events = None
    try:
        if procfs.numbers_are_ours():
            events = subscribe(LIBRARY)
    except OSError:
        pass  # looks at all processes find the same, later
    return TlsCapture(procfs, probes, events)
