"""Saying, once, why a target is not seen in plaintext: silence would look like nothing having been sent.

Some reasons are known from procfs (no namespace, no sidecar, a gateway, proxyless gRPC), others only from packets (the
application's own TLS, HBONE on the wire and nothing on lo).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Set
from dataclasses import dataclass

from tapper.discovery.envoy import Verdict
from tapper.discovery.finders import Candidate, Finder, why_gateway, why_proxyless, why_unseen
from tapper.discovery.procfs import Procfs
from tapper.discovery.roles import gateway_role, is_proxyless
from tapper.discovery.scanner import Scan, scan
from tapper.errors import TapperError
from tapper.namespaces.identity import NamespaceId
from tapper.output.records import Place
from tapper.output.sink import Console
from tapper.protocols.facts import Tls
from tapper.protocols.records import FactRecord
from tapper.streams.legs import Direction
from tapper.targets.addresses import Address

_ENVOYS = (Verdict.NOT_A_TARGET, Verdict.NO_INSTANCE_IP, Verdict.BAD_INSTANCE_IP)
_HBONE_PORT = "15008"  # Istio's tunnels: HTTP CONNECT in mTLS, of ztunnels, waypoints and newer sidecars
_HBONE_PATIENCE_S = 2.0
"""A tunnel comes before the plaintext on the server's lo: how long after it that may still be on its way."""
_MOST_PORTS = 8  # named for a pod: whoever scans ports is not to write a log


@dataclass(frozen=True, slots=True)
class Known:
    """What the follower knows already."""

    claimed: Set[Address]
    """Addresses of targets that some process claims."""
    captured: Set[Address]
    """Addresses that captured namespaces have."""
    shared: Set[NamespaceId]
    """Namespaces whose lo is not one pod's."""


class Unseen:
    """The reasons that procfs knows. `ask` gets the addresses that a candidate's namespace has, or None."""

    def __init__(
        self,
        procfs: Procfs,
        console: Console,
        finders: frozenset[Finder],
        ask: Callable[[Candidate], Set[Address] | None],
    ) -> None:
        self._procfs = procfs
        self._console = console
        self._finders = finders
        self._ask = ask
        self._said: set[Address] = set()
        self._checked: dict[NamespaceId, set[tuple[int, str | None]]] = {}
        """Of namespaces captured in without a proxy, who was looked at for reasons."""

    def keep(self, targets: Set[Address]) -> None:
        """What is no target any longer is told anew when it becomes one again."""
        self._said &= targets

    def missing(self, found: Scan, targets: Set[Address], known: Known) -> None:
        """Say why nothing is captured of some targets, each once."""
        unseen = targets - self._said - known.claimed - known.captured
        self._said |= targets
        if not unseen:
            return
        homes, residents = self._homes(targets)
        envoys = {
            refused.netns for refused in found.refused if refused.verdict in _ENVOYS and refused.netns is not None
        }
        for address in sorted(unseen, key=str):
            home = homes.get(address)
            proxyless = None if home is None else self._proxyless(residents.get(home.netns, set()))
            self._console.warn(
                why_unseen(address, home, self._finders, shared=known.shared, other_envoys=envoys, proxyless=proxyless)
            )

    def captured(self, candidate: Candidate, address: Address) -> None:
        """A source was opened by way of a process: say so where that process gives no plaintext."""
        if candidate.found_by is Finder.ENVOY:
            role = gateway_role(self._procfs, candidate.pid)
            if role is not None:
                sentence = why_gateway(address, candidate.pid, role)
                self._console.warn_once((candidate.netns, address, role), sentence)

    def look(self, found: Scan, by_namespace: dict[NamespaceId, Address]) -> None:
        """Look at who is new in namespaces that were found without a proxy: an application starts after its pod."""
        self._checked = {netns: checked for netns, checked in self._checked.items() if netns in by_namespace}
        for netns, address in by_namespace.items():
            residents = set(found.residents.get(netns, ()))
            checked = self._checked.setdefault(netns, set())
            fresh, self._checked[netns] = residents - checked, residents
            proxyless = self._proxyless(fresh) if fresh else None
            if proxyless is not None and not any(Finder.ENVOY.finds(exe) for _, exe in residents):
                self._console.warn_once((netns, address, "proxyless"), why_proxyless(address, proxyless))

    def _proxyless(self, residents: Set[tuple[int, str | None]]) -> int | None:
        return next((pid for pid, _ in sorted(residents) if is_proxyless(self._procfs.environ(pid))), None)

    def _homes(
        self, targets: Set[Address]
    ) -> tuple[dict[Address, Candidate], dict[NamespaceId, set[tuple[int, str | None]]]]:
        """Which namespace has an address, as far as that can be seen, and who lives there."""
        homes: dict[Address, Candidate] = {}
        try:
            found = scan(self._procfs, targets, finders={Finder.NETNS})
        except TapperError:
            return homes, {}  # a reason less; the look that this is about has succeeded
        for candidate in found.candidates:
            homes |= dict.fromkeys(self._ask(candidate) or (), candidate)
        return homes, {netns: set(residents) for netns, residents in found.residents.items()}


class Opaque:
    """The reasons that packets show."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._ports: dict[tuple[object, str], set[str]] = {}
        self._hbone: dict[str, float] = {}
        """Targets with HBONE on the wire about which nothing is decided, and since when, by time.monotonic."""
        self._judged: set[str] = set()

    @property
    def waiting(self) -> bool:
        """Whether there is something to `judge`."""
        return bool(self._hbone)

    def note(self, place: Place, note: FactRecord, targets: Set[Address]) -> None:
        """Something was seen."""
        if not isinstance(note.fact, Tls):
            return
        leg = note.leg
        port = str(leg.dst.port)
        if leg.direction is not Direction.NODE:
            self._own_tls(place, leg.pod_ip or "", leg.direction, port)
        elif port == _HBONE_PORT:
            ends = {end.host for end in (leg.src, leg.dst)}
            for address in ends & set(map(str, targets)) - self._judged:
                self._hbone.setdefault(address, time.monotonic())

    def _own_tls(self, place: Place, pod: str, direction: Direction, port: str) -> None:
        ports = self._ports.setdefault((place.netns, pod), set())
        if port in ports or len(ports) >= _MOST_PORTS:
            return
        ports.add(port)
        more = "; further ports of it are not named" if len(ports) == _MOST_PORTS else ""
        self._console.warn(
            f"{direction} traffic of the pod {pod} on port {port} is the application's own TLS: the mesh passes it on "
            f"as it is, so only its server name is shown{more}"
        )

    def judge(self, quiet: Callable[[str], bool | None]) -> None:
        """Say of which targets there is nothing but HBONE. `quiet` tells whether nothing was ever seen on a pod's lo,
        None where its lo is not captured."""
        for address, since in list(self._hbone.items()):
            if time.monotonic() - since < _HBONE_PATIENCE_S:
                continue
            del self._hbone[address]
            self._judged.add(address)
            silent = quiet(address)
            if silent is False:
                continue
            advice = (
                "its lo is not captured: --istio --discover netns does that"
                if silent is None
                else ("nothing crosses its lo, so this method cannot see into it")
            )
            self._console.warn(
                f"the wire of the pod {address} carries HBONE (port {_HBONE_PORT}), as in ambient mode, where a "
                f"ztunnel elsewhere encrypts for it, and {advice}"
            )

    def keep(self, addresses: Set[Address]) -> None:
        """What is no target any longer is told anew when it becomes one again."""
        targets = set(map(str, addresses))
        self._judged &= targets
        self._hbone = {address: since for address, since in self._hbone.items() if address in targets}
