"""The ways to a pod's network namespace.

    envoy     a process whose executable is named envoy says by INSTANCE_IP whose it is: Istio's sidecars
    linkerd   a process whose executable is named linkerd2-proxy; its environment has the pod's name but no address
    netns     any process: every network namespace that has a target's address, whatever proxy there is, or none

Only the first goes by what a process says. The others go by the addresses that a namespace has.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from enum import StrEnum

from tapper.discovery.envoy import DELETED, Verdict, is_envoy_path
from tapper.namespaces.identity import NamespaceId
from tapper.targets.addresses import Address


class Finder(StrEnum):
    """A way, by the name that the command line has for it; those before others are preferred."""

    ENVOY = "envoy"
    LINKERD = "linkerd"
    NETNS = "netns"

    def finds(self, exe: str | None) -> bool:
        """Whether a process with this exe link is what this way looks for."""
        match self:
            case Finder.ENVOY:
                return exe is not None and is_envoy_path(exe)
            case Finder.LINKERD:
                return exe is not None and is_linkerd_path(exe)
            case Finder.NETNS:
                return True


@dataclass(frozen=True, slots=True)
class Candidate:
    """A process in a namespace that may be a target's."""

    pid: int
    netns: NamespaceId
    found_by: Finder
    claimed: Address | None = None
    """The address that the process says it is of, which then is a target's; None where it says nothing."""


def is_linkerd_path(exe: str) -> bool:
    """Whether the last component of an exe link is `linkerd2-proxy`, of a binary that may have been deleted since."""
    return exe.removesuffix(DELETED).endswith("/linkerd2-proxy")


@dataclass(frozen=True, slots=True)
class Resident:
    """A process that leads to a network namespace without saying whose it is, and what became of it."""

    pid: int
    exe: str | None
    netns: NamespaceId
    found_by: Finder
    verdict: Verdict
    reason: str | None = None
    """What speaks against its namespace being a target's."""

    @property
    def instance_ip(self) -> None:
        """It claims none."""


def judge(
    candidate: Candidate, exe: str | None, owned: Set[Address] | None, targets: Set[Address] | None, *, shared: bool
) -> Resident:
    """The verdict on a process that claims nothing. `owned` None: the namespace could not be asked. `targets` None
    makes a target of every address. `shared`: its lo is not one pod's."""
    verdict, reason = Verdict.RESIDENT, None
    if shared:
        verdict, reason = (
            Verdict.NODE,
            "it is in the node's own network namespace: whose is whose on its lo, none can tell",
        )
    elif owned is None:
        verdict, reason = Verdict.UNREADABLE, "its network namespace could not be asked for its addresses"
    elif not owned:
        verdict, reason = Verdict.NO_ADDRESS, "its network namespace has no address"
    elif targets is not None and not owned & targets:
        verdict, reason = Verdict.NOT_A_TARGET, "no address of its network namespace is a target"
    return Resident(candidate.pid, exe, candidate.netns, candidate.found_by, verdict, reason)


_SOUGHT = {Finder.ENVOY: "Envoy", Finder.LINKERD: "Linkerd proxy", Finder.NETNS: "network namespace"}


def why_unseen(
    address: Address,
    home: Candidate | None,
    finders: Set[Finder],
    *,
    shared: Set[NamespaceId],
    other_envoys: Set[NamespaceId],
    proxyless: int | None = None,
) -> str:
    """A sentence about a target in whose namespace nothing is captured.

    `home` is some process in the namespace that has the address, where one was found. `shared` are the namespaces of
    which the lo is not one pod's, `other_envoys` those with an Envoy that claims no target; `proxyless` is a process
    there that is a member of the mesh without a proxy.
    """
    if home is not None and home.netns in shared:
        return f"{address} is the node's own address: whose is whose on its lo cannot be told, so only its wire is seen"
    sought = " and no ".join(_SOUGHT[finder] for finder in Finder if finder in finders)
    whose = f"{'with INSTANCE_IP' if finders == {Finder.ENVOY} else 'of'} {address}"
    if home is None:
        where = "and no network namespace here that has this address"
    elif home.netns in other_envoys:
        where = f"but its network namespace {home.netns.inode} (pid {home.pid}) has an Envoy that claims another"
    elif proxyless is not None:
        return why_proxyless(address, proxyless)
    else:
        where = f"and no sidecar in its network namespace {home.netns.inode} (pid {home.pid})"
    return f"no {sought} {whose} yet, {where}: until there is, only the node sees its traffic"


def why_proxyless(address: Address, pid: int) -> str:
    """A sentence about a target whose application is a member of the mesh without a proxy."""
    return (
        f"the pod {address} has no proxy (pid {pid} is part of proxyless gRPC, by its environment): its application "
        "does mTLS itself, so nothing of that is ever plaintext on its lo"
    )


def why_gateway(address: Address, pid: int, role: str) -> str:
    """A sentence about a target whose Envoy is no sidecar."""
    return (
        f"the pod {address} is a gateway (its Envoy, pid {pid}, was started as proxy {role}): it decrypts and encrypts "
        "within one process, so no plaintext of it crosses its lo, and only its wire is seen"
    )
