"""`tapper discover --tls`: the processes of pods that do TLS themselves, and which of them can be read. Nothing is
attached to them."""

from __future__ import annotations

from collections.abc import Callable, Set

from tapper.discovery.finders import Finder, Verdict
from tapper.discovery.procfs import Procfs
from tapper.follow import discover
from tapper.output.records import TlsProcess
from tapper.targets.addresses import Address
from tapper.uprobe.processes import TlsProcesses


def listing(procfs: Procfs, targets: Set[Address] | None, warn: Callable[[str], None]) -> list[TlsProcess]:
    """By pod and pid. `targets` None makes a target of every address but the node's own. Raises ProcfsError and
    MissingCapabilityError."""
    found, owned = discover.listing(procfs, targets, frozenset({Finder.NETNS}), warn)
    pods = {}
    for resident in found:
        if resident.verdict is Verdict.RESIDENT and resident.netns is not None:
            addresses = owned[resident.netns] if targets is None else owned[resident.netns] & targets
            pods[resident.netns] = str(min(addresses, key=lambda address: (address.version, int(address))))
    listed = TlsProcesses(procfs).look(pods)
    return sorted(listed, key=lambda process: (process.pod_ip, process.pid, process.library))
