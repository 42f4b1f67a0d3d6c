"""`tapper discover`: every process that was looked at, with the verdict on it."""

from __future__ import annotations

from collections.abc import Callable, Set

from tapper.discovery.finders import Candidate, Finder, Finding, Verdict
from tapper.discovery.procfs import Procfs
from tapper.discovery.scanner import Scanner, unexamined
from tapper.errors import MissingCapabilityError, NamespaceGoneError
from tapper.follow.addresses import NamespaceAddresses
from tapper.namespaces.identity import NamespaceId, own_namespace
from tapper.output.records import Owned
from tapper.targets.addresses import Address


def listing(
    procfs: Procfs,
    targets: Set[Address] | None,
    finders: frozenset[Finder],
    warn: Callable[[str], None],
    *,
    everything: bool = False,
) -> tuple[list[Finding], Owned]:
    """The processes by ascending pid, and the addresses of their namespaces.

    A process that several finders found is listed once for each. `netns` finds one process a namespace. A process that
    is no Envoy is listed if something suggests an Envoy, or with `everything`. `warn` gets sentences about what could
    not be read. Raises ProcfsError and MissingCapabilityError.
    """
    # 1. Scan.
    scan = Scanner(procfs, finders, detail=True).scan(targets)
    candidates = [candidate for candidate in scan.candidates if candidate.found_by is not Finder.ENVOY]
    listed: list[Finding] = []
    if Finder.ENVOY in finders:
        listed += scan.envoys
        listed += [other for other in scan.refused if everything or (other.exe and other.verdict != Verdict.OTHER)]
    # 2. Ask the namespaces for their addresses.
    groups: dict[NamespaceId, list[int]] = {}
    for pid, netns in [*((each.pid, each.netns) for each in listed), *((each.pid, each.netns) for each in candidates)]:
        if netns is not None:
            groups.setdefault(netns, []).append(pid)
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
        shared, exe = candidate.netns in nodes, procfs.exe(candidate.pid)
        listed.append(_judge(candidate, exe, owned.get(candidate.netns), targets, shared=shared))
    if scan.unreadable:
        warn(unexamined(scan))
    return sorted(listed, key=lambda process: process.pid), owned


def _judge(
    candidate: Candidate, exe: str | None, owned: Set[Address] | None, targets: Set[Address] | None, *, shared: bool
) -> Finding:
    """The verdict on a process that was found by `linkerd` or `netns`.

    `owned`: the addresses of its namespace, None where they could not be read. `targets` None makes a target of every
    address. `shared`: the namespace is the node's, so its lo is not one pod's.
    """
    verdict, reason = Verdict.RESIDENT, None
    if shared:
        verdict, reason = Verdict.NODE, "it is in the node's own network namespace: its lo is not one pod's"
    elif owned is None:
        verdict, reason = Verdict.UNREADABLE, "the addresses of its network namespace could not be read"
    elif not owned:
        verdict, reason = Verdict.NO_ADDRESS, "its network namespace has no address"
    elif targets is not None and not owned & targets:
        verdict, reason = Verdict.NOT_A_TARGET, "no address of its network namespace is a target"
    return Finding(candidate.pid, exe, candidate.netns, verdict, reason, found_by=candidate.found_by)
