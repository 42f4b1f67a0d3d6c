"""The plain data of worlds: what a world has, its pods and services. Nothing here knows who makes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

APP_PORT = 8080
SERVICE_PORT = 80


@dataclass(frozen=True, slots=True)
class Capabilities:
    """A capability of a world. A scenario may require it."""

    kubernetes: bool = False
    """An API server, label selectors, DaemonSets."""
    nodes: int = 1
    ipv6: bool = False
    gateway: bool = False
    """An ingress gateway of Istio that runs."""
    ambient: bool = False
    native_sidecars: bool = False
    """Istio's sidecar as an init container that stays."""
    container_sidecars: bool = False
    control_plane: bool = False
    """The API server can be restarted."""


NEEDS: Mapping[str, str] = {
    "kubernetes": "a Kubernetes cluster: give --kind, or --kubeconfig with --context",
    "two_nodes": "two nodes that run pods: give --kind, which makes two workers",
    "ipv6": "pods with IPv6 addresses: a dual-stack or IPv6 cluster",
    "gateway": "an ingress gateway of Istio: install one (--istio-values with the profile default)",
    "ambient": "Istio's ambient mode: install it with the profile ambient (--istio-values)",
    "native_sidecars": "Istio's sidecar as an init container: Kubernetes 1.29 and Istio 1.27 or later, by default",
    "container_sidecars": "Istio's sidecar as an ordinary container: set ENABLE_NATIVE_SIDECARS to false in istiod",
    "control_plane": "an API server that may be restarted: give --kind",
}
"""The words of `@pytest.mark.needs`, and what to do about each."""


def lacking(capabilities: Capabilities, needs: Iterable[str]) -> list[str]:
    """The needs that a world does not meet, each as a sentence. Raises KeyError for a word that is not in NEEDS."""
    found = []
    for need in needs:
        sentence = NEEDS[need]
        there = capabilities.nodes >= 2 if need == "two_nodes" else bool(getattr(capabilities, need))
        if not there:
            found.append(sentence)
    return found


@dataclass(frozen=True, slots=True)
class WorldPod:
    """A pod that runs. A pod that was deleted and made again is another one."""

    name: str
    ips: tuple[str, ...]
    """All its addresses, the primary one (`status.podIP`) first."""
    node: str
    meshed: bool

    @property
    def ip(self) -> str:
        return self.ips[0]

    @property
    def ipv4(self) -> str | None:
        return next((ip for ip in self.ips if ":" not in ip), None)

    @property
    def ipv6(self) -> str | None:
        return next((ip for ip in self.ips if ":" in ip), None)


@dataclass(frozen=True, slots=True)
class WorldService:
    """A name for pods. `host` is what a client inside the world dials: a name where there is DNS, else an address."""

    name: str
    host: str
    port: int
