"""Broken in finding the processes whose TLS is read: what comes later is not found."""

from __future__ import annotations

from collections.abc import Mapping

from harness.conformance.mutants.model import Fault, Mutant
from tapper.namespaces.identity import NamespaceId
from tapper.output.records import TlsProcess
from tapper.uprobe.processes import TlsProcesses


def _look_once() -> None:
    whole = TlsProcesses.look
    known: set[NamespaceId] = set()

    def look(self: TlsProcesses, pods: Mapping[NamespaceId, str], *, everything: bool = True) -> list[TlsProcess]:
        new = {netns: address for netns, address in pods.items() if netns not in known}
        known.update(new)
        return whole(self, new, everything=everything) if new else []

    TlsProcesses.look = look  # type: ignore[method-assign]
    TlsProcesses.look_at = lambda *_: []  # type: ignore[method-assign]


LOOKS_ONCE = Mutant(
    "own-tls-looks-once",
    "It looks at the libraries of a pod's processes once, when the pod becomes a target.",
    {"TLS-07": "that loaded its TLS library last"},
    Fault(patches=(_look_once,)),
)
