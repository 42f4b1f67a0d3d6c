"""Whose the network namespaces are to which processes lead, and whether to capture in one.

An INSTANCE_IP is what a process says of itself, so a namespace is asked for its own addresses; of a process that claims
nothing they are all that tells.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

from tapper.discovery.finders import Candidate
from tapper.discovery.procfs import Procfs
from tapper.errors import TapperError
from tapper.follow.owners import Owners
from tapper.namespaces.enter import run_inside
from tapper.namespaces.identity import NamespaceId, own_user_namespace, owner_of
from tapper.namespaces.veth import is_linked_to
from tapper.output.sink import Console
from tapper.targets.addresses import Address

_FOREIGN = "its network namespace was made in a user namespace, as any process of a pod can make one with any address"
_MOST_TOLD = 8
"""Namespaces of which the same is said about one address."""


class Wanted(NamedTuple):
    """A process whose namespace is to be captured in."""

    candidate: Candidate
    address: Address
    doubt: str | None
    """Why the address may not be its namespace's."""
    addresses: frozenset[Address]
    """It is a target's as long as one of these is a target."""
    owned: frozenset[Address]
    """All that its namespace has."""
    foreign: bool = False
    """Whether a process of a pod may have made its namespace (`Homes.is_foreign`)."""


class Homes:
    """What is known of namespaces. With `verify` a claim is not believed that the addresses do not bear out."""

    def __init__(self, procfs: Procfs, console: Console, *, verify: bool) -> None:
        self._procfs = procfs
        self._owners = Owners(procfs)
        self._own_users = own_user_namespace()
        self._foreign: dict[NamespaceId, bool] = {}
        self._told: dict[tuple[Address | None, str], set[NamespaceId]] = {}
        self._console = console
        self._verify = verify
        self.shared: frozenset[NamespaceId] = frozenset()
        """The node's namespace, and this process's: their lo is many pods' or nobody's."""

    def ask(self, groups: Mapping[NamespaceId, Sequence[Candidate]], captured: Container[NamespaceId]) -> None:
        """Begin a look that found these processes, by their namespaces: those are asked again whose answers have become
        too old, and whose addresses tell whether they are a target's, or the one that they are said to be."""
        self._owners.keep(groups.keys())
        self._foreign = {netns: foreign for netns, foreign in self._foreign.items() if netns in groups}
        self._owners.refresh(
            group[-1]
            for netns, group in groups.items()
            if netns not in captured and (netns not in self.shared or group[0].claimed is not None)
        )

    def addresses(self, candidate: Candidate) -> frozenset[Address] | None:
        """Those that a process's namespace has; None where it cannot be asked."""
        return self._owners.of(candidate)[0]

    def rivals(
        self, wanted: Wanted, groups: Mapping[NamespaceId, Sequence[Candidate]], captured: Container[NamespaceId]
    ) -> list[Candidate]:
        """Processes of other namespaces that have the same address now, as no two pods of a node have. Namespaces that
        a process of a pod may have made do not count: they must not cast doubt on a pod."""
        address, found = wanted.address, []
        for netns, group in groups.items():
            if netns == wanted.candidate.netns or netns in self.shared or address not in self._owners.known(netns):
                continue
            if netns in captured and address not in (self.addresses(group[-1]) or ()):
                continue  # it had the address when it was asked last
            if not self.is_foreign(group[-1]):
                found.append(group[-1])
        return found

    def is_foreign(self, candidate: Candidate) -> bool:
        """Whether a process of a pod may have made the namespace, with any address it likes: its owner is another user
        namespace than this process's, and no interface of it leads into the node's namespace."""
        known = self._foreign.get(candidate.netns)
        if known is None:
            known = self._foreign[candidate.netns] = self._may_be_made_by_pod(candidate)
        return known

    def _may_be_made_by_pod(self, candidate: Candidate) -> bool:
        path = self._procfs.namespace_path(candidate.pid)
        try:
            if owner_of(path) == self._own_users:
                return False
        except OSError:
            return False  # gone, or owned by an ancestor of this process's user namespace, which no pod is in
        node = self._procfs.namespace_path(1)
        try:
            return not run_inside(path, candidate.netns, lambda: is_linked_to(node))
        except TapperError:
            return True

    def is_new(self, netns: NamespaceId) -> bool:
        """Whether its addresses are not known, and may be one pod's."""
        return netns not in self.shared and not self._owners.known(netns)

    def doubt(self) -> None:
        """Addresses have changed somewhere."""
        self._owners.doubt()

    def judge(self, candidate: Candidate, targets: frozenset[Address]) -> Wanted | None:
        """Whether to capture in a process's namespace."""
        if candidate.claimed is None and not self._may_be_target(candidate.netns, targets):
            return None
        owned, reason = self._owners.of(candidate)
        if owned is None and not reason:
            return None
        matched = (owned or frozenset()) & targets
        address = candidate.claimed or min(matched, key=lambda each: (each.version, int(each)), default=None)
        if address is None:
            if reason:
                self.warn(candidate, None, "is not captured in", reason)
            return None
        foreign = self.is_foreign(candidate)
        doubt = reason if owned is None else _doubt(address, owned)
        if foreign:
            doubt = doubt or _FOREIGN
            if candidate.claimed is None:
                self.warn(candidate, address, "is not captured", doubt)
                return None
        if doubt and self._verify:
            self.warn(candidate, address, "is not captured (--verify)", doubt)
            return None
        addresses = frozenset({address}) if candidate.claimed else matched
        return Wanted(candidate, address, doubt, addresses, owned or frozenset({address}), foreign)

    def holds_until(self, group: Sequence[Candidate], targets: frozenset[Address]) -> float:
        """Until when there is no need to judge again the processes of a namespace in which nothing is captured, by
        time.monotonic; the past where opening it is to be tried at every look."""
        netns, claimed = group[0].netns, group[0].claimed
        if claimed is not None or self._may_be_target(netns, targets):
            return -math.inf
        return math.inf if netns in self.shared else self._owners.holds_until(netns)

    def warn(self, candidate: Candidate, address: Address | None, fate: str, reason: str) -> None:
        """Say once what is not as it should be about a process's namespace. A pod can make any number of namespaces, so
        the same is said of a few of them only."""
        who = f"network namespace {candidate.netns.inode}" if address is None else f"the pod {address}"
        told = self._told.setdefault((address, fate), set())
        if candidate.netns not in told and len(told) >= _MOST_TOLD:
            self._console.warn_once((address, fate), f"{who} {fate} in further network namespaces, which are not named")
            return
        told.add(candidate.netns)
        self._console.warn_once(
            (candidate.netns, address, fate, reason), f"{who} (pid {candidate.pid}) {fate}: {reason}"
        )

    def _may_be_target(self, netns: NamespaceId, targets: frozenset[Address]) -> bool:
        """Whether there is reason to go on with a namespace: it has a target's address, or could not be asked."""
        maybe = netns not in self._owners or bool(self._owners.known(netns) & targets)
        return netns not in self.shared and maybe


def _doubt(claimed: Address, owned: frozenset[Address]) -> str | None:
    """Why a process that claims an address may not be of the pod that has it; None where its namespace has it."""
    if claimed in owned:
        return None
    has = ", ".join(sorted(map(str, owned))) or "none"
    return f"its network namespace does not have the address of its INSTANCE_IP, but {has}"
