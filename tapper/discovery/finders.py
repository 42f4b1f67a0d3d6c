"""The ways to find a pod's network namespace.

    envoy     a process whose executable is named envoy and whose INSTANCE_IP is a target: Istio's sidecars
    linkerd   a process whose executable is named linkerd2-proxy; its environment has the pod's name but no address
    netns     any process: every network namespace that has a target's address, with any proxy or none

`envoy` believes a process; the other ways believe the addresses that a namespace has.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from enum import StrEnum

from tapper.discovery.envoy import DELETED, Verdict, is_envoy_path
from tapper.namespaces.identity import NamespaceId
from tapper.targets.addresses import Address
from tapper.targets.pods import PodName


class Finder(StrEnum):
    """A way, by its name on the command line. The first ones are preferred."""

    ENVOY = "envoy"
    LINKERD = "linkerd"
    NETNS = "netns"

    def finds(self, exe: str | None) -> bool:
        """Whether a process with this exe link leads to a namespace in this way."""
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
    """The INSTANCE_IP of an Envoy, which is a target; None by other finders."""
    pod: PodName | None = None
    """The pod's name, in the environment of a Linkerd proxy."""


def is_linkerd_path(exe: str) -> bool:
    """Whether the last component of an exe link is `linkerd2-proxy`, of a binary that may have been deleted since."""
    return exe.removesuffix(DELETED).endswith("/linkerd2-proxy")


@dataclass(frozen=True, slots=True)
class Resident:
    """A process that was found by `linkerd` or `netns`, with the verdict on its namespace."""

    pid: int
    exe: str | None
    netns: NamespaceId
    found_by: Finder
    verdict: Verdict
    reason: str | None = None
    """Why its namespace is not a target's."""

    @property
    def instance_ip(self) -> None:
        """An Envoy alone has one."""


def judge(
    candidate: Candidate, exe: str | None, owned: Set[Address] | None, targets: Set[Address] | None, *, shared: bool
) -> Resident:
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
    return Resident(candidate.pid, exe, candidate.netns, candidate.found_by, verdict, reason)
