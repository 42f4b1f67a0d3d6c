"""`tapper discover --tls`: the processes of pods that do TLS themselves, and which of them can be read. Nothing is
attached to them."""

from __future__ import annotations

from collections.abc import Callable, Set

from tapper.discovery.finders import Finder
from tapper.discovery.procfs import Procfs
from tapper.discovery.scanner import Scanner, unexamined
from tapper.errors import MissingCapabilityError
from tapper.follow.addresses import NamespaceAddresses
from tapper.namespaces.identity import own_namespace
from tapper.output.records import TlsProcess
from tapper.targets.addresses import Address
from tapper.uprobe.processes import TlsProcesses


def listing(procfs: Procfs, targets: Set[Address] | None, warn: Callable[[str], None]) -> list[TlsProcess]:
    """By pod and pid. `targets` None makes a target of every address but the node's own. Raises ProcfsError and
    MissingCapabilityError."""
    scan = Scanner(procfs, {Finder.NETNS}).scan(targets)
    nodes = {own_namespace(), procfs.netns(1)}
    groups = {netns: [pid for pid, _ in found] for netns, found in scan.residents.items() if netns not in nodes}
    addresses = NamespaceAddresses(procfs)
    for error in addresses.refresh(groups).values():
        if isinstance(error, MissingCapabilityError):
            raise error
    pods = {}
    for netns in groups:
        owned = addresses.known(netns) or frozenset()
        matched = owned if targets is None else owned & targets
        if matched:
            pods[netns] = str(min(matched, key=lambda address: (address.version, int(address))))
    if scan.unreadable:
        warn(unexamined(scan))
    found = TlsProcesses(procfs).look(pods, None)
    return sorted(found, key=lambda process: (process.pod_ip, process.pid, process.library))
