"""The plain data of a mesh: modes, workloads, services, destinations. No I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass

PROXY_UID = 1337
"""The user of Istio's proxies, whose traffic the redirect rules leave alone."""

PASSTHROUGH_SOURCE = {4: "127.0.0.6", 6: "::6"}
"""The source address of an inbound proxy's connections to the application (Istio 1.10 and later)."""


class Mode(enum.Enum):
    """The traffic that an inbound proxy accepts (Istio's PeerAuthentication)."""

    STRICT = "STRICT"
    PERMISSIVE = "PERMISSIVE"
    DISABLE = "DISABLE"


class Delivery(enum.Enum):
    """How an inbound proxy reaches the application."""

    PASSTHROUGH = "127.0.0.6"
    """From 127.0.0.6 to the pod's own address."""
    LOCALHOST = "127.0.0.1"
    """From 127.0.0.1 to 127.0.0.1, as before Istio 1.10."""


@dataclass(frozen=True, slots=True)
class UpstreamEndpoint:
    """One address behind a destination. `identity` is the SPIFFE URI to insist on, None for plaintext."""

    address: str
    port: int
    identity: str | None


@dataclass(frozen=True, slots=True)
class Destination:
    """The address that a client dials (a service's or a pod's), and the endpoints behind it."""

    name: str
    address: str
    port: int
    endpoints: tuple[UpstreamEndpoint, ...]


@dataclass(frozen=True, slots=True)
class ProxySpec:
    """The input of one sidecar's configuration."""

    name: str
    mode: Mode
    delivery: Delivery
    ports: tuple[int, ...]
    """The application's ports; only LOCALHOST delivery needs to know them."""
    destinations: tuple[Destination, ...]
    directory: str
    """The folder of certificates and configuration, as the proxy sees it."""
    mark: int | None
    """A socket mark for the proxy's own connections, if it cannot have its own uid."""
