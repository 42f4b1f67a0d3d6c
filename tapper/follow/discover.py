"""`tapper discover`: every process that was looked at, with the verdict on it."""

from __future__ import annotations

from collections.abc import Callable, Set

from tapper.discovery.finders import Finder, judge
from tapper.discovery.procfs import Procfs
from tapper.discovery.scanner import Scanner, unexamined
from tapper.errors import MissingCapabilityError, NamespaceGoneError
from tapper.follow.addresses import NamespaceAddresses
from tapper.namespaces.identity import NamespaceId, own_namespace
from tapper.output.records import Listed, Owned
from tapper.targets.addresses import Address


def listing(
    procfs: Procfs,
    targets: Set[Address] | None,
    finders: frozenset[Finder],
    warn: Callable[[str], None],
    *,
    everything: bool = False,
) -> tuple[list[Listed], Owned]:
    """The processes by ascending pid, and the addresses of their namespaces.

    A process that several finders found is listed once for each. `netns` finds one process a namespace. A process that
    is no Envoy is listed if something suggests an Envoy, or with `everything`. `warn` gets sentences about what could
    not be read. Raises ProcfsError and MissingCapabilityError.
    """
    # 1. Scan.
    scan = Scanner(procfs, finders, detail=True).scan(targets)
    candidates = [candidate for candidate in scan.candidates if candidate.found_by is not Finder.ENVOY]
    listed: list[Listed] = []
    if Finder.ENVOY in finders:
        listed += [*scan.envoys, *(refused for refused in scan.refused if everything or refused.looked_at)]
    # 2. Ask the namespaces for their addresses.
    groups: dict[NamespaceId, list[int]] = {}
    for process in (*listed, *candidates):
        if process.netns is not None:
            groups.setdefault(process.netns, []).append(process.pid)
    addresses = NamespaceAddresses(procfs)
    for netns, error in addresses.refresh(groups).items():
        if isinstance(error, MissingCapabilityError):
            warn(f"claims of addresses are not checked: {error}")
            break
        if not isinstance(error, NamespaceGoneError):
            warn(f"what process {groups[netns][0]} claims is not checked: {error}")
    owned = {netns: known for netns in groups if (known := addresses.known(netns)) is not None}
    # 3. Judge the processes that claim no address.
    nodes = {own_namespace(), procfs.netns(1)}
    for candidate in candidates:
        netns = candidate.netns
        listed.append(judge(candidate, procfs.exe(candidate.pid), owned.get(netns), targets, shared=netns in nodes))
    if scan.unreadable:
        warn(unexamined(scan))
    return sorted(listed, key=lambda process: process.pid), owned
