"""Whether to capture in the network namespace of a process, and as which target.

A process states its INSTANCE_IP itself, so the addresses of its namespace are asked of the kernel. By the finders
`linkerd` and `netns` these addresses alone decide.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from tapper.discovery.finders import Candidate
from tapper.discovery.procfs import Procfs
from tapper.errors import NamespaceGoneError, TapperError
from tapper.follow.addresses import NamespaceAddresses
from tapper.namespaces.contents import is_linked_to
from tapper.namespaces.enter import run_inside
from tapper.namespaces.identity import NamespaceId, own_user_namespace, owner_of
from tapper.output.console import Console
from tapper.targets.addresses import Address

_FOREIGN = "its network namespace was made in a user namespace, as any process of a pod can make one with any address"
_MOST_NAMED = 8
"""Namespaces that are named with the same complaint about one address."""

Groups = Mapping[NamespaceId, Sequence[Candidate]]
"""The candidates by namespace, the preferred ones first."""


@dataclass(frozen=True, slots=True)
class CaptureDecision:
    """To capture in a candidate's namespace."""

    candidate: Candidate
    address: Address
    doubt: str | None
    """Why the address may not be the namespace's; None without doubt."""
    addresses: frozenset[Address]
    """The namespace is a target's as long as one of these is a target."""
    owned: frozenset[Address]
    """All addresses of the namespace."""
    foreign: bool
    """Whether a process of a pod may have made the namespace (`CaptureRules.is_foreign`)."""


class CaptureRules:
    """Decides. With `verify` no namespace is captured whose address is in doubt."""

    def __init__(self, procfs: Procfs, console: Console, *, verify: bool) -> None:
        self._procfs = procfs
        self._console = console
        self._verify = verify
        self.addresses = NamespaceAddresses(procfs)
        self.shared: frozenset[NamespaceId] = frozenset()
        """The node's namespace, and this process's: their lo is not one pod's."""
        self._own_users = own_user_namespace()
        self._foreign: dict[NamespaceId, bool] = {}
        self._named: dict[tuple[Address | None, str], set[NamespaceId]] = {}
        self._groups: Groups = {}
        self._captured: Container[NamespaceId] = ()

    def begin_scan(self, groups: Groups, captured: Container[NamespaceId]) -> None:
        """Take the candidates of a new scan, and ask the namespaces whose addresses matter and are not known."""
        self._groups, self._captured = groups, captured
        self._foreign = {netns: foreign for netns, foreign in self._foreign.items() if netns in groups}
        self.addresses.forget_others(groups.keys())
        self.addresses.refresh(
            {
                netns: [candidate.pid for candidate in group]
                for netns, group in groups.items()
                if netns not in captured and (netns not in self.shared or group[0].claimed is not None)
            }
        )

    def decide(self, candidate: Candidate, targets: frozenset[Address]) -> CaptureDecision | None:
        """The decision on one candidate; None not to capture, which is said where it is not evident."""
        claimed, netns = candidate.claimed, candidate.netns
        # 1. Without a claim, the known addresses can rule the namespace out.
        if claimed is None and not self._may_be_target(netns, targets):
            return None
        # 2. Ask the namespace itself.
        owned, doubt = frozenset[Address](), None
        try:
            owned = self.addresses.ask(netns, candidate.pid)
        except NamespaceGoneError:
            return None
        except TapperError as error:
            doubt = str(error)
        # 3. Choose the target whose namespace it is.
        matched = owned & targets
        address = claimed or min(matched, key=lambda target: (target.version, int(target)), default=None)
        if address is None:
            if doubt:
                self.warn(candidate, None, "is not captured in", doubt)
            return None
        # 4. Look for reasons against it.
        foreign = self.is_foreign(candidate)
        if doubt is None and address not in owned:
            has = ", ".join(sorted(map(str, owned))) or "none"
            doubt = f"its network namespace does not have the address of its INSTANCE_IP, but {has}"
        if foreign:
            doubt = doubt or _FOREIGN
            if claimed is None:
                self.warn(candidate, address, "is not captured", doubt)
                return None
        if doubt is None:
            doubt = self._rival_of(candidate, address)
        if doubt and self._verify:
            self.warn(candidate, address, "is not captured (--verify)", doubt)
            return None
        addresses = frozenset({address}) if claimed else matched
        return CaptureDecision(candidate, address, doubt, addresses, owned or frozenset({address}), foreign)

    def is_foreign(self, candidate: Candidate) -> bool:
        """Whether a process of a pod may have made the namespace, with any address it likes: another user namespace
        than this process's owns it, and no interface links it to the node's namespace."""
        foreign = self._foreign.get(candidate.netns)
        if foreign is None:
            foreign = self._foreign[candidate.netns] = self._may_be_made_by_pod(candidate)
        return foreign

    def is_new(self, netns: NamespaceId) -> bool:
        """Whether a namespace may be one pod's, and its addresses are not known."""
        return netns not in self.shared and not self.addresses.known(netns)

    def warn(self, candidate: Candidate, address: Address | None, fate: str, reason: str) -> None:
        """Say once why something is wrong with a namespace. A pod can make any number of namespaces, so the same
        complaint names a few of them only."""
        subject = f"network namespace {candidate.netns.inode}" if address is None else f"the pod {address}"
        named = self._named.setdefault((address, fate), set())
        if candidate.netns not in named and len(named) >= _MOST_NAMED:
            message = f"{subject} {fate} in further network namespaces, which are not named"
            self._console.warn_once((address, fate), message)
            return
        named.add(candidate.netns)
        key = (candidate.netns, address, fate, reason)
        self._console.warn_once(key, f"{subject} (pid {candidate.pid}) {fate}: {reason}")

    def _may_be_target(self, netns: NamespaceId, targets: frozenset[Address]) -> bool:
        """Whether a namespace has a target's address, or has not been asked successfully."""
        known = self.addresses.known(netns)
        return netns not in self.shared and (known is None or not known.isdisjoint(targets))

    def _may_be_made_by_pod(self, candidate: Candidate) -> bool:
        link, node = self._procfs.namespace_path(candidate.pid), self._procfs.namespace_path(1)
        try:
            if owner_of(link) == self._own_users:
                return False
        except OSError:
            return False  # gone, or owned by an ancestor of this process's user namespace, which no pod is in
        try:
            return not run_inside(link, candidate.netns, lambda: is_linked_to(node))
        except TapperError:
            return True

    def _rival_of(self, candidate: Candidate, address: Address) -> str | None:
        """The doubt because of another namespace with the same address, as no two pods of a node have. A namespace that
        a process of a pod may have made is no rival: it must not cast doubt on a pod."""
        doubt = None
        for netns, group in self._groups.items():
            rival = group[-1]
            if netns == candidate.netns or netns in self.shared or address not in (self.addresses.known(netns) or ()):
                continue
            captured = netns in self._captured
            if self.is_foreign(rival) or (captured and not self._still_has(rival, address)):
                continue
            doubt = doubt or f"network namespace {netns.inode} (pid {rival.pid}) has the same address"
            if captured:
                reason = f"network namespace {candidate.netns.inode} (pid {candidate.pid}) has the same address"
                self.warn(rival, address, "is captured, although it is in doubt whose it is", reason)
        return doubt

    def _still_has(self, candidate: Candidate, address: Address) -> bool:
        try:
            return address in self.addresses.ask(candidate.netns, candidate.pid)
        except TapperError:
            return False
