"""What a run with --tls asks of `tapper.uprobe`: plaintext of the TLS that the pods' own processes do.

`tapper.uprobe` is not imported here: the command gives what opens it (`Options.plaintext`). The tapper without that
package is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from tapper.capture.mapped import CaptureRing
from tapper.discovery.procfs import Procfs
from tapper.namespaces.identity import NamespaceId
from tapper.output.records import TlsProcess

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

    def open(self, netns: NamespaceId, address: str) -> CaptureRing:
        """The ring of a network namespace, which has a pod's address. When this returns, its processes are captured.
        Raises TapperError."""

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


def sentence(process: TlsProcess) -> str:
    """For a person: why nothing of a process's TLS is seen."""
    return (
        f"the TLS of {process.program} (pid {process.pid}) in the pod {process.pod_ip} cannot be read: "
        f"{process.library}, {process.reason}"
    )
