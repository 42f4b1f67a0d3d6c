"""The ways to find a pod's network namespace.

    envoy     a process whose executable is named envoy and whose INSTANCE_IP is a target: Istio's sidecars
    linkerd   a process whose executable is named linkerd2-proxy; its environment has the pod's name but no address
    netns     any process: every network namespace that has a target's address, with any proxy or none

`envoy` believes a process; the other ways believe the addresses that a namespace has.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tapper.namespaces.identity import NamespaceId
from tapper.targets.addresses import Address
from tapper.targets.pods import PodName

DELETED = " (deleted)"
"""The end of the exe link of a binary that was deleted."""


def is_envoy_path(exe: str) -> bool:
    """Whether the last component of an exe link is `envoy`, also of a deleted binary."""
    return exe.removesuffix(DELETED).endswith("/envoy")


def is_linkerd_path(exe: str) -> bool:
    """Whether the last component of an exe link is `linkerd2-proxy`, also of a deleted binary."""
    return exe.removesuffix(DELETED).endswith("/linkerd2-proxy")


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


class Verdict(StrEnum):
    """Whether a process leads to a target's namespace."""

    ENVOY = "envoy"
    NOT_A_TARGET = "not-a-target"
    NO_INSTANCE_IP = "no-instance-ip"
    BAD_INSTANCE_IP = "bad-instance-ip"
    UNREADABLE = "unreadable"
    LOOK_ALIKE = "look-alike"
    OTHER = "other"
    RESIDENT = "resident"
    """In a target's network namespace, found by `linkerd` or `netns`."""
    NODE = "node"
    NO_ADDRESS = "no-address"


@dataclass(frozen=True, slots=True)
class Finding:
    """A process with the verdict on it."""

    pid: int
    exe: str | None
    netns: NamespaceId | None
    verdict: Verdict
    reason: str | None = None
    """Why its namespace is not captured: a phrase for a person. None for ENVOY and RESIDENT."""
    instance_ip: str | None = None
    """Its text in the environment, decoded as latin-1; None where there is none."""
    found_by: Finder | None = None
    """None for a process that is not what the finders look for."""
    address: Address | None = None
    """The INSTANCE_IP of the Envoy of a target."""
    hostile: bool = False
    """Whether the process has made its environment unreadable."""
