"""The legs of a mesh: what a connection on a pod's lo is, and how the two halves of a redirected one are found.

Istio's iptables rules redirect what an application sends to Envoy on 127.0.0.1:15001 (istio-init writes them).
On lo the request then shows as `podIP:eph -> 127.0.0.1:15001` and the reply as `destination:port -> podIP:eph`, because
the address translation is undone only for the application's eyes. The two halves are no mirrors of each other, so a
reader that goes by addresses and ports never pairs them (istio/istio#22915). Even the source port can differ: sockets
that share one towards several destinations are given others towards 15001, while replies go to the original one.

What cannot differ is TCP's own numbers: each side acknowledges what the other sent. So that is what pairs them here.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from tapper.streams.packet import opener
from tapper.targets.addresses import spell

OUTBOUND_PORT = 15001
INBOUND_PORT = 15006

# Listeners of Envoy, pilot-agent and istiod: admin, internal, HBONE, control plane, telemetry, probes, DNS, metrics.
# Outbound (15001) is not among them: what goes there is the application's.
MESH_PORTS = frozenset({15000, 15004, 15008, 15012, 15014, 15020, 15021, 15053, 15090})

# Envoy delivers to the application from these (InboundPassthroughBindIpv4/6 in Istio's pilot).
DELIVERY_ADDRESSES = frozenset({bytes((127, 0, 0, 6)), bytes(15) + b"\x06"})
_MESH_PORT_BYTES = frozenset(port.to_bytes(2, "big") for port in MESH_PORTS)
_INBOUND_PORT_BYTES = INBOUND_PORT.to_bytes(2, "big")
_FIRST_EPHEMERAL = 32768
"""Of the ports that Linux gives to clients (net.ipv4.ip_local_port_range, ip(7))."""
_LOOPBACK_6 = bytes(15) + b"\x01"


class Direction(StrEnum):
    """Which leg a connection is, seen from the pod."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"
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
        return spell(self.address)

    @property
    def packed(self) -> bytes:
        """Address and port in network byte order, 6 or 18 bytes."""
        return self.address + self.port.to_bytes(2, "big")

    def __str__(self) -> str:
        """`10.0.0.1:80`, or `[fd00::1]:80` (RFC 3986 section 3.2.2)."""
        return f"[{self.host}]:{self.port}" if len(self.address) == 16 else f"{self.host}:{self.port}"


def endpoints(key: bytes) -> tuple[Endpoint, Endpoint]:
    """Source and destination of a packet's key (see `tapper.streams.packet`)."""
    width = (len(key) - 4) // 2
    return (
        Endpoint(key[:width], int.from_bytes(key[-4:-2], "big")),
        Endpoint(key[width:-4], int.from_bytes(key[-2:], "big")),
    )


def is_loopback(address: bytes) -> bool:
    """127.0.0.0/8 or ::1."""
    return address[0] == 127 if len(address) == 4 else address == _LOOPBACK_6


def own_end(source: Endpoint, destination: Endpoint) -> Endpoint:
    """Which end of a packet on a lo is the pod's own: the destination, except where that is Envoy's."""
    envoys = is_loopback(destination.address) or destination.address in DELIVERY_ADDRESSES
    return source if envoys else destination


def is_mesh_internal(key: bytes, flags: int, pod_ip: str | None) -> bool:
    """Whether a packet on a pod's lo, of no known connection, is between parts of the mesh: its server listens on one
    of MESH_PORTS, at an address of the pod itself. A client may have any port, and so may a server elsewhere.

    Where no SYN tells which end is the server, the other port must be one that the kernel gives to clients. In doubt
    the packet is not the mesh's: an exchange too many is reported, rather than one that a pod hides.
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
    own = is_loopback(end.address) or end.address in DELIVERY_ADDRESSES or pod_ip in (None, spell(end.address))
    return own and end.port in MESH_PORTS


def is_to_envoy(key: bytes) -> bool:
    """Whether a packet on a pod's lo is on its way to the inbound listener, by its key."""
    return key[-2:] == _INBOUND_PORT_BYTES


def is_redirected(source: Endpoint, destination: Endpoint) -> bool:
    """Whether packets on lo between these two may be the sending half of a redirected connection, whatever the port: it
    is a setting of the mesh.

    REDIRECT leads to a loopback address (iptables-extensions(8)). Who dials one without it comes from another loopback
    address, unless he binds to the pod's own; then packets with mirrored addresses come back, which tells.
    """
    if not is_loopback(destination.address):
        return False
    if destination.port in (OUTBOUND_PORT, INBOUND_PORT):
        return True
    return not (is_loopback(source.address) or source.address in DELIVERY_ADDRESSES)


def may_be_reply(source: Endpoint, destination: Endpoint) -> bool:
    """Whether packets on lo between these two may be the answering half of a redirected connection.

    Such a half comes from anywhere in the world and goes to the pod's own address, never to a loopback one.
    """
    return not (is_loopback(source.address) or is_loopback(destination.address) or source.address in DELIVERY_ADDRESSES)


def classify(
    client: Endpoint, server: Endpoint, *, on_lo: bool, both_ways: bool, pod: bytes | None = None
) -> Direction:
    """Which leg a connection is.

    `on_lo` tells a pod's lo from the node's interfaces, `pod` is that pod's address where it is known. `both_ways` is
    whether packets of both directions were seen under mirrored addresses; a lone half between two different addresses
    on lo can only be one of a redirected connection.
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
    # Transparent interception (TPROXY) delivers with the caller's own address, which is another pod's.
    foreign = not is_loopback(client.address) and not is_loopback(server.address) and client.address != pod
    return Direction.INBOUND if foreign else Direction.LOCAL


class Numbers(NamedTuple):
    """What one half last said: the number after its last byte, and what it had received (None on a first SYN)."""

    next: int
    ack: int | None


class Candidate(NamedTuple):
    """A half that waits for its other half. `token` is the caller's name for it."""

    token: bytes
    pod: Endpoint
    """The pod's end: the source of a redirected half, the destination of a reply."""
    numbers: Numbers


_Index = dict[tuple[bytes, int], dict[bytes, None]]


class _Side:
    """The waiting halves of one kind, found by what they sent and by what they received."""

    def __init__(self) -> None:
        self.waiting: dict[bytes, Candidate] = {}
        self._by_next: _Index = {}
        self._by_ack: _Index = {}

    def put(self, candidate: Candidate) -> None:
        self.drop(candidate.token)
        self.waiting[candidate.token] = candidate
        for index, where in self._places(candidate):
            index.setdefault(where, {})[candidate.token] = None

    def drop(self, token: bytes) -> None:
        candidate = self.waiting.pop(token, None)
        if candidate is None:
            return
        for index, where in self._places(candidate):
            tokens = index[where]
            del tokens[token]
            if not tokens:
                del index[where]

    def _places(self, candidate: Candidate) -> Iterator[tuple[_Index, tuple[bytes, int]]]:
        address, numbers = candidate.pod.address, candidate.numbers
        yield self._by_next, (address, numbers.next)
        if numbers.ack is not None:
            yield self._by_ack, (address, numbers.ack)

    def matching(self, other: Candidate) -> list[Candidate]:
        """Those of which the other half has received all, or that have received all of the other half."""
        address, numbers = other.pod.address, other.numbers
        tokens = dict(self._by_ack.get((address, numbers.next), {}))
        if numbers.ack is not None:
            tokens |= self._by_next.get((address, numbers.ack), {})
        return [self.waiting[token] for token in tokens]


class Pairing:
    """Pairs redirected halves with reply halves by sequence numbers; tokens in, tokens out.

    A half and its opposite agree when one has acknowledged exactly what the other has sent: a SYN-ACK its SYN, or in
    midstream `A.next == B.ack` or `A.ack == B.next`. Both must belong to the same pod address. Where several agree,
    those with the same pod port come first; where that leaves more than one, nothing is decided until the numbers move
    on.
    """

    def __init__(self) -> None:
        self._redirected = _Side()
        self._replies = _Side()

    def offer(self, candidate: Candidate, *, redirected: bool) -> bytes | None:
        """What a waiting half says now. Returns the token of its other half, which both then leave; or None."""
        mine, others = (self._redirected, self._replies) if redirected else (self._replies, self._redirected)
        found = others.matching(candidate)
        same_port = [other for other in found if other.pod.port == candidate.pod.port]
        best = same_port or found
        if len(best) != 1:
            mine.put(candidate)
            return None
        mine.drop(candidate.token)
        others.drop(best[0].token)
        return best[0].token

    def forget(self, token: bytes) -> None:
        """This half waits no longer."""
        self._redirected.drop(token)
        self._replies.drop(token)

    def __len__(self) -> int:
        return len(self._redirected.waiting) + len(self._replies.waiting)
