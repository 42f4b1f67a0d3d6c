"""Saying, once, why nothing is captured of a target: silence would look like no traffic.

The reasons are known from procfs: no namespace, no sidecar, a gateway, proxyless gRPC. Reasons that only packets show
are in `tapper.follow.encrypted`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from heapq import nsmallest

from tapper.discovery.finders import Candidate, Finder, Verdict
from tapper.discovery.procfs import Procfs
from tapper.discovery.roles import gateway_role, is_proxyless
from tapper.discovery.scanner import Scan, Scanner
from tapper.errors import TapperError
from tapper.follow.addresses import NamespaceAddresses
from tapper.namespaces.identity import NamespaceId
from tapper.output.console import Console
from tapper.targets.addresses import Address

_OTHER_ENVOYS = (Verdict.NOT_A_TARGET, Verdict.NO_INSTANCE_IP, Verdict.BAD_INSTANCE_IP)
_MOST_NAMED = 200
"""Missing targets at a time, each of which costs a sentence."""
_SOUGHT = {Finder.ENVOY: "Envoy", Finder.LINKERD: "Linkerd proxy", Finder.NETNS: "network namespace"}


class MissingTargets:
    """Names targets of which nothing is captured, and captured ones without plaintext, with the reason."""

    def __init__(self, procfs: Procfs, console: Console, finders: frozenset[Finder]) -> None:
        self._procfs = procfs
        self._console = console
        self._finders = finders
        self._named: set[Address] = set()
        self._examined: dict[NamespaceId, set[tuple[int, str | None]]] = {}
        """The residents that were examined, by namespace that was found without a proxy."""

    def keep(self, targets: Set[Address]) -> None:
        """Forget all addresses that are no target any longer: they are named again when they become one again."""
        self._named &= targets

    def say_missing(self, scan: Scan, targets: Set[Address], captured: Set[Address], shared: Set[NamespaceId]) -> None:
        """Name the targets that no process claims and no captured namespace has. `shared`: see `why_missing`."""
        claimed = {candidate.claimed for candidate in scan.candidates}
        missing = targets - self._named - claimed - captured
        self._named |= targets
        if not missing:
            return
        # 1. Find the namespaces that have the addresses, and the processes in them.
        homes: dict[Address, Candidate] = {}
        residents: Mapping[NamespaceId, Iterable[tuple[int, str | None]]] = {}
        try:
            everything = Scanner(self._procfs, {Finder.NETNS}).scan(targets)
        except TapperError:  # a reason less; the scan that this is about has succeeded
            pass
        else:
            residents = everything.residents
            addresses = NamespaceAddresses(self._procfs)
            addresses.refresh({candidate.netns: [candidate.pid] for candidate in everything.candidates})
            for candidate in everything.candidates:
                homes |= dict.fromkeys(addresses.known(candidate.netns) or (), candidate)
        # 2. Say what is wrong with each.
        envoys = {refused.netns for refused in scan.refused if refused.verdict in _OTHER_ENVOYS and refused.netns}
        for address in sorted(nsmallest(_MOST_NAMED, missing, key=lambda each: (each.version, each.packed)), key=str):
            home = homes.get(address)
            proxyless = None if home is None else self._proxyless(residents.get(home.netns, ()))
            self._console.warn(
                why_missing(address, home, self._finders, shared=shared, other_envoys=envoys, proxyless=proxyless)
            )
        if len(missing) > _MOST_NAMED:
            self._console.warn(f"{len(missing) - _MOST_NAMED} more targets are not captured, which are not named")

    def say_gateway(self, candidate: Candidate, address: Address) -> None:
        """Say that the namespace of an Envoy that is now captured gives no plaintext, if the Envoy is a gateway's."""
        role = gateway_role(self._procfs, candidate.pid) if candidate.found_by is Finder.ENVOY else None
        if role is not None:
            self._console.warn_once(
                (candidate.netns, address, role),
                f"the pod {address} is a gateway (its Envoy, pid {candidate.pid}, was started as proxy {role}): it "
                "decrypts and encrypts within one process, so no plaintext of it crosses its lo, and only its wire is "
                "seen",
            )

    def say_proxyless(self, scan: Scan, without_proxy: Mapping[NamespaceId, Address]) -> None:
        """Look for proxyless gRPC among the new processes of captured namespaces that were found without a proxy: an
        application starts after its pod."""
        self._examined = {netns: pids for netns, pids in self._examined.items() if netns in without_proxy}
        for netns, address in without_proxy.items():
            residents = set(scan.residents.get(netns, ()))
            new = residents - self._examined.get(netns, set())
            self._examined[netns] = residents
            proxyless = self._proxyless(new)
            if proxyless is not None and not any(Finder.ENVOY.finds(exe) for _, exe in residents):
                self._console.warn_once((netns, address, "proxyless"), _why_proxyless(address, proxyless))

    def _proxyless(self, residents: Iterable[tuple[int, str | None]]) -> int | None:
        pids = sorted(pid for pid, _ in residents)
        return next((pid for pid in pids if is_proxyless(self._procfs.environ(pid))), None)


def why_missing(
    address: Address,
    home: Candidate | None,
    finders: Set[Finder],
    *,
    shared: Set[NamespaceId],
    other_envoys: Set[NamespaceId],
    proxyless: int | None = None,
) -> str:
    """A sentence about a target in whose namespace nothing is captured.

    `home`: a process in the namespace that has the address, if there is one. `shared`: the namespaces whose lo is not
    one pod's. `other_envoys`: those with an Envoy that claims no target. `proxyless`: a process of a proxyless gRPC
    application in the namespace of `home`.
    """
    if home is not None and home.netns in shared:
        return (
            f"{address} is the node's own address: the node's lo cannot be divided among pods, so only its wire is seen"
        )
    if home is None:
        where = "and no network namespace here that has this address"
    elif home.netns in other_envoys:
        where = f"but its network namespace {home.netns.inode} (pid {home.pid}) has an Envoy that claims another"
    elif proxyless is not None:
        return _why_proxyless(address, proxyless)
    else:
        where = f"and no sidecar in its network namespace {home.netns.inode} (pid {home.pid})"
    sought = " and no ".join(_SOUGHT[finder] for finder in Finder if finder in finders)
    relation = "with INSTANCE_IP" if finders == {Finder.ENVOY} else "of"
    return f"no {sought} {relation} {address} yet, {where}: until there is, only the node sees its traffic"


def _why_proxyless(address: Address, pid: int) -> str:
    return (
        f"the pod {address} has no proxy (pid {pid} is part of proxyless gRPC, by its environment): its application "
        "does mTLS itself, so nothing of that is ever plaintext on its lo"
    )
