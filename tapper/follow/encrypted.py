"""Saying, once, why packets of a target are seen and its plaintext is not: the application's own TLS, or HBONE."""

from __future__ import annotations

import time
from collections.abc import Callable, Set

from tapper.output.console import Console
from tapper.output.records import Place
from tapper.protocols.facts import Tls
from tapper.protocols.records import FactRecord
from tapper.streams.legs import Direction
from tapper.targets.addresses import Address

_HBONE_PORT = "15008"  # Istio's tunnels: HTTP CONNECT in mTLS, of ztunnels, waypoints and newer sidecars
_HBONE_PATIENCE_S = 2.0
"""How long after the tunnel's first packets the plaintext on the server's lo may come."""
_MOST_PORTS = 8
"""How many ports of a pod are named: a port scan must not fill the log."""


class EncryptedTargets:
    """The encrypted traffic that was seen of each target. `own_tls`: whether to name the application's own TLS."""

    def __init__(self, console: Console, *, own_tls: bool = True) -> None:
        self._console = console
        self._names_own_tls = own_tls
        self._ports: dict[tuple[object, str], set[str]] = {}
        """The ports that were named, by namespace and pod."""
        self._hbone: dict[str, float] = {}
        """The targets with HBONE on the wire that are not judged yet, since when, by time.monotonic."""
        self._judged: set[str] = set()

    @property
    def waiting(self) -> bool:
        """Whether there are targets to `judge`."""
        return bool(self._hbone)

    def note(self, place: Place, record: FactRecord, targets: Set[Address]) -> None:
        """Take in a fact about a connection."""
        if not isinstance(record.fact, Tls):
            return
        leg = record.leg
        port = str(leg.dst.port)
        if leg.direction is not Direction.NODE:
            if self._names_own_tls:
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
        """Name the targets of which nothing but HBONE is seen. `quiet(address)`: whether no connection was seen on the
        pod's lo; None where its lo is not captured."""
        now = time.monotonic()
        for address in [address for address, since in self._hbone.items() if now - since >= _HBONE_PATIENCE_S]:
            del self._hbone[address]
            self._judged.add(address)
            silent = quiet(address)
            if silent is False:
                continue
            advice = "nothing crosses its lo, so this method cannot see into it"
            if silent is None:
                advice = "its lo is not captured: --istio --discover netns does that"
            self._console.warn(
                f"the wire of the pod {address} carries HBONE (port {_HBONE_PORT}), as in ambient mode, where a "
                f"ztunnel elsewhere encrypts for it, and {advice}"
            )

    def keep(self, targets: Set[Address]) -> None:
        """Forget all addresses that are no target any longer: they are named again when they become one again."""
        addresses = set(map(str, targets))
        self._judged &= addresses
        self._hbone = {address: since for address, since in self._hbone.items() if address in addresses}
