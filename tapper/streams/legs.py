"""The legs of an exchange: what the addresses of a connection on a pod's lo, or on the node, say about it.

Istio's iptables rules (written by istio-init) redirect what an application sends to Envoy at 127.0.0.1:15001. Address
translation is undone for the application's socket only. So on lo the request is `podIP:port -> 127.0.0.1:15001` and the
reply is `destination:port -> podIP:port`. `tapper.streams.pairing` finds the two halves of such a connection.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from tapper.runtime.memo import Memo
from tapper.streams.packet import opener
from tapper.targets.addresses import spell

OUTBOUND_PORT: Final = 15001
INBOUND_PORT: Final = 15006

MESH_PORTS: Final = frozenset({15000, 15004, 15008, 15012, 15014, 15020, 15021, 15053, 15090})
"""Listeners of Envoy, pilot-agent and istiod: admin, internal, HBONE, control plane, telemetry, probes, DNS, metrics.
Without the outbound listener (15001): what an application sends there is the application's."""

DELIVERY_ADDRESSES: Final = frozenset({bytes((127, 0, 0, 6)), bytes(15) + b"\x06"})
"""127.0.0.6 and ::6: Envoy delivers to the application from these (InboundPassthroughBindIpv4/6 in Istio's pilot)."""
_MESH_PORT_BYTES: Final = frozenset(port.to_bytes(2, "big") for port in MESH_PORTS)
_INBOUND_PORT_BYTES: Final = INBOUND_PORT.to_bytes(2, "big")
_FIRST_EPHEMERAL: Final = 32768
"""The first port that Linux gives to clients (net.ipv4.ip_local_port_range, ip(7))."""
_SPELLED: Final[Memo[bytes, str]] = Memo(spell, len)
_LOOPBACK_6: Final = bytes(15) + b"\x01"


class Direction(StrEnum):
    """Which leg a connection is, seen from the pod."""

    INBOUND = "inbound"
    """From Envoy to the pod's application, on the pod's lo."""
    OUTBOUND = "outbound"
    """From the pod's application to Envoy, on the pod's lo."""
    LOCAL = "local"
    NODE = "node"
    """On one of the node's interfaces, so outside of every pod."""


class Endpoint(NamedTuple):
    """One end of a connection."""

    address: bytes
    """4 or 16 bytes in network byte order."""
    port: int

    @property
    def host(self) -> str:
        """The address in canonical text (RFC 5952)."""
        return _SPELLED[self.address]

    @property
    def packed(self) -> bytes:
        """Address and port in network byte order, 6 or 18 bytes."""
        return self.address + self.port.to_bytes(2, "big")

    def __str__(self) -> str:
        """`10.0.0.1:80`, or `[fd00::1]:80` (RFC 3986 section 3.2.2)."""
        return f"[{self.host}]:{self.port}" if len(self.address) == 16 else f"{self.host}:{self.port}"


def endpoints(key: bytes) -> tuple[Endpoint, Endpoint]:
    """Source and destination of a packet's key (`tapper.streams.packet.TcpHeader`)."""
    width = (len(key) - 4) // 2
    return (
        Endpoint(key[:width], int.from_bytes(key[-4:-2], "big")),
        Endpoint(key[width:-4], int.from_bytes(key[-2:], "big")),
    )


def is_loopback(address: bytes) -> bool:
    """True for 127.0.0.0/8 and ::1."""
    return address[0] == 127 if len(address) == 4 else address == _LOOPBACK_6


def own_end(source: Endpoint, destination: Endpoint) -> Endpoint:
    """The pod's own end of a packet on lo: the destination, unless the destination is Envoy."""
    to_envoy = is_loopback(destination.address) or destination.address in DELIVERY_ADDRESSES
    return source if to_envoy else destination


def is_mesh_internal(key: bytes, flags: int, pod_ip: str | None) -> bool:
    """Whether a packet on a pod's lo, of no known connection, is between parts of the mesh: its server has one of
    MESH_PORTS at an address of the pod. A client may have any port, and so may a server elsewhere.

    Where no SYN tells which end is the server, the other end must have a port that Linux gives to clients. In doubt the
    packet is not the mesh's: an exchange too many is better than an exchange that a pod can hide.
    """
    if key[-2:] not in _MESH_PORT_BYTES and key[-4:-2] not in _MESH_PORT_BYTES:
        return False
    ends = endpoints(key)
    client = opener(flags)
    if client is not None:
        return _is_mesh_server(ends[1 - client], pod_ip)
    return any(
        _is_mesh_server(server, pod_ip) and other.port >= _FIRST_EPHEMERAL for server, other in (ends, ends[::-1])
    )


def _is_mesh_server(end: Endpoint, pod_ip: str | None) -> bool:
    own = is_loopback(end.address) or end.address in DELIVERY_ADDRESSES or pod_ip in (None, end.host)
    return own and end.port in MESH_PORTS


def is_to_envoy(key: bytes) -> bool:
    """Whether a packet on a pod's lo goes to Envoy's inbound listener, by its key."""
    return key[-2:] == _INBOUND_PORT_BYTES


def is_redirected(source: Endpoint, destination: Endpoint) -> bool:
    """Whether packets on lo from `source` to `destination` may be the requests of a redirected connection. The port may
    be any: it is a setting of the mesh.

    REDIRECT leads to a loopback address (iptables-extensions(8)). A client that dials a loopback address without a
    redirection has a loopback address itself, unless it binds to the pod's own. In that case packets with mirrored
    addresses come back, and they show that the connection is not redirected.
    """
    if not is_loopback(destination.address):
        return False
    if destination.port in (OUTBOUND_PORT, INBOUND_PORT):
        return True
    return not (is_loopback(source.address) or source.address in DELIVERY_ADDRESSES)


def may_be_reply(source: Endpoint, destination: Endpoint) -> bool:
    """Whether packets on lo from `source` to `destination` may be the replies of a redirected connection. They come
    from any address, and go to the pod's own address, never to a loopback address."""
    return not (is_loopback(source.address) or is_loopback(destination.address) or source.address in DELIVERY_ADDRESSES)


def classify(
    client: Endpoint, server: Endpoint, *, on_lo: bool, both_ways: bool, pod: bytes | None = None
) -> Direction:
    """Which leg a connection is.

    `on_lo` tells a pod's lo from the node's interfaces; `pod` is the pod's address, where it is known. `both_ways` says
    that packets of both directions had mirrored addresses. A half without a mirrored half, between two different
    addresses on lo, can only belong to a redirected connection.
    """
    if not on_lo:
        return Direction.NODE
    if server.port == OUTBOUND_PORT and is_loopback(server.address):
        return Direction.OUTBOUND
    if client.address in DELIVERY_ADDRESSES or (is_loopback(client.address) and is_loopback(server.address)):
        return Direction.INBOUND
    if client.address == server.address:
        return Direction.LOCAL
    if not both_ways:
        return Direction.OUTBOUND
    # Transparent interception (TPROXY) delivers from the caller's own address, which is another pod's.
    foreign = not is_loopback(client.address) and not is_loopback(server.address) and client.address != pod
    return Direction.INBOUND if foreign else Direction.LOCAL
