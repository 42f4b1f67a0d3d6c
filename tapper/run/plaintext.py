"""What a run with --tls adds: the plaintext of the TLS that the pods' own processes do.

`tapper.uprobe` is not imported here: the command gives what opens it (`Options.plaintext`). The tapper without that
package is complete.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeAlias

from tapper.capture.mapped import CaptureRing
from tapper.capture.sources import Sources
from tapper.discovery.procfs import Procfs
from tapper.errors import TapperError
from tapper.namespaces.identity import NamespaceId
from tapper.output.console import Console
from tapper.output.records import Place, TlsProcess
from tapper.streams.connection import Scope

INTERFACE: Final = "tls"
"""The name, instead of an interface's, in the place of a source of plaintext."""


class PlaintextCapture(Protocol):
    """Takes the plaintext of the processes in some network namespaces."""

    libraries: tuple[str, ...]
    """The names of the TLS libraries, by the numbers in packets (`tapper.streams.connection.Scope.libraries`)."""

    @property
    def next_look(self) -> float:
        """When to call `look`, by time.monotonic."""

    def fileno(self) -> int | None:
        """Readable when `take_events` has something to do; None for never."""

    def take_events(self) -> None:
        """Take the kernel's records of processes."""

    def open(self, netns: NamespaceId) -> CaptureRing:
        """The ring of a network namespace. The next look finds its processes. Raises TapperError."""

    def look(self, pods: Mapping[NamespaceId, str]) -> list[TlsProcess]:
        """Look for new processes in these network namespaces, each with its pod's address. Returns the processes whose
        TLS has become known. Raises TapperError."""

    def close(self) -> None:
        """Let go of every process."""


OpenPlaintext: TypeAlias = Callable[[Procfs], PlaintextCapture]
"""Raises TapperError, and MissingCapabilityError, where it does not work here."""


@dataclass(frozen=True, slots=True)
class PlaintextOf:
    """The key of the source with the plaintext of a pod, whose lo has the key `lo`."""

    lo: NamespaceId


class PlaintextSources:
    """The sources of plaintext: one for each pod whose lo is captured. `add` adds a source; `tell` is called with each
    process whose TLS cannot be read."""

    def __init__(
        self,
        capture: PlaintextCapture,
        sources: Sources[Any],
        console: Console,
        add: Callable[[PlaintextOf, CaptureRing, Place, Scope], None],
        tell: Callable[[TlsProcess], None],
    ) -> None:
        self._capture = capture
        self._sources = sources
        self._console = console
        self._add = add
        self._tell = tell
        self._pods: dict[NamespaceId, tuple[Place, Scope]] = {}
        """The places and scopes of the pods' lo."""
        self._new: set[NamespaceId] = set()
        """The pods' lo that have no source of plaintext yet."""
        descriptor = capture.fileno()
        if descriptor is not None:
            sources.watch(descriptor, select.POLLIN, capture.take_events)

    @property
    def next_look(self) -> float:
        """When to call `look`, by time.monotonic."""
        return 0.0 if self._ready() else self._capture.next_look

    def lo_opened(self, netns: NamespaceId, place: Place, scope: Scope) -> None:
        """The lo of a pod is captured. The next look opens its plaintext."""
        self._pods[netns] = place, scope
        self._new.add(netns)

    def lo_closed(self, netns: NamespaceId) -> None:
        """The lo of a pod is not captured any more. This does not close the source of the pod's plaintext."""
        self._pods.pop(netns, None)
        self._new.discard(netns)

    def look(self) -> None:
        """Open the plaintext of new pods, and look into new processes of all pods. The sources are added when their
        processes are captured."""
        # 1. The rings.
        rings: dict[NamespaceId, CaptureRing] = {}
        for netns in self._ready():
            self._new.discard(netns)
            try:
                rings[netns] = self._capture.open(netns)
            except TapperError as error:
                self._console.warn(str(error))
        # 2. The processes.
        found: list[TlsProcess] = []
        try:
            found += self._capture.look({netns: place.instance_ip or "" for netns, (place, _) in self._pods.items()})
        except TapperError as error:
            self._console.warn_once(("processes", str(error)), f"{error}; what is attached stays attached")
        # 3. The sources.
        for netns, ring in rings.items():
            place, scope = self._pods[netns]
            place, scope = replace(place, interface=INTERFACE), replace(scope, libraries=self._capture.libraries)
            self._add(PlaintextOf(netns), ring, place, scope)
        for process in found:
            self._say(process)

    def close(self) -> None:
        self._capture.close()

    def _ready(self) -> list[NamespaceId]:
        """The new pods whose former plaintext is read to the end."""
        return [netns for netns in self._new if PlaintextOf(netns) not in self._sources]

    def _say(self, process: TlsProcess) -> None:
        if process.reason is None:
            self._console.progress(f"reading {process.library} of {process.program} (pid {process.pid})")
            return
        self._tell(process)
        self._console.warn_once(
            (process.pod_ip, process.program, process.library),
            f"the TLS of {process.program} (pid {process.pid}) in the pod {process.pod_ip} cannot be read: "
            f"{process.library}, {process.reason}",
        )
