"""A sidecar's traffic legs as packets, for tests that need no proxy.

`conversation` builds the frames of one TCP connection as they appear on a pod's `lo`; `play` puts them there. The
frames are a plain list: drop, repeat, reorder or cut them before playing. The pod's own TCP never answers, because the
kernel refuses packets that claim to come from its own addresses but were not sent by it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.mesh.envoy_config import LOOPBACK, OUTBOUND_PORT
from harness.mesh.workload import PASSTHROUGH_SOURCE
from harness.sandbox.pod import Pod

DEFAULT_MSS = 1400
_CLIENT_ISN = 1_000_000
_SERVER_ISN = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Leg:
    """Who talks to whom on `lo`: (address, port) pairs. Replies may come from elsewhere than requests went to."""

    client: tuple[str, int]
    server: tuple[str, int]
    replies_from: tuple[str, int]


def inbound(pod: Pod, port: int, source_port: int = 40001, *, ipv6: bool = False, localhost: bool = False) -> Leg:
    """The decrypted leg to an application: from 127.0.0.6 to the pod's address, or all on 127.0.0.1."""
    family = 6 if ipv6 else 4
    address = str(pod.ipv6 if ipv6 else pod.ipv4)
    source = PASSTHROUGH_SOURCE[family]
    if localhost:
        address = source = LOOPBACK[family]
    return Leg((source, source_port), (address, port), (address, port))


def outbound(pod: Pod, destination: tuple[str, int], source_port: int = 40002) -> Leg:
    """The leg from an application to its sidecar: redirected to 15001, answered in the destination's name."""
    ipv6 = ":" in destination[0]
    address = str(pod.ipv6 if ipv6 else pod.ipv4)
    return Leg((address, source_port), (LOOPBACK[6 if ipv6 else 4], OUTBOUND_PORT), destination)


def conversation(
    leg: Leg,
    exchanges: Iterable[tuple[bytes, bytes]],
    *,
    handshake: bool = True,
    close: bool = True,
    mss: int = DEFAULT_MSS,
    client_isn: int = _CLIENT_ISN,
    server_isn: int = _SERVER_ISN,
) -> list[bytes]:
    """Ethernet frames of a connection that carries (request, response) pairs, each side's bytes in pieces of `mss`."""
    from scapy.layers.inet import IP, TCP, Ether  # noqa: PLC0415 - half a second, and only here
    from scapy.layers.inet6 import IPv6  # noqa: PLC0415

    layer = IPv6 if ":" in leg.client[0] else IP
    sequence = {"client": client_isn, "server": server_isn}
    frames: list[bytes] = []

    def emit(side: str, flags: str, payload: bytes = b"") -> None:
        peer = "server" if side == "client" else "client"
        (source, sport), (target, dport) = (
            (leg.client, leg.server) if side == "client" else (leg.replies_from, leg.client)
        )
        acknowledged = sequence[peer] if "A" in flags else 0
        tcp = TCP(sport=sport, dport=dport, flags=flags, seq=sequence[side], ack=acknowledged)
        frame = Ether(src="00:00:00:00:00:00", dst="00:00:00:00:00:00") / layer(src=source, dst=target) / tcp / payload
        frames.append(bytes(frame))
        sequence[side] = (sequence[side] + len(payload) + sum(flag in "SF" for flag in flags)) & 0xFFFFFFFF

    if handshake:
        emit("client", "S")
        emit("server", "SA")
        emit("client", "A")
    else:
        sequence = {side: number + 1 & 0xFFFFFFFF for side, number in sequence.items()}
    for request, response in exchanges:
        for side, data in (("client", request), ("server", response)):
            for start in range(0, len(data), mss):
                emit(side, "PA", data[start : start + mss])
    if close:
        emit("client", "FA")
        emit("server", "FA")
        emit("client", "A")
    return frames


def play(pod: Pod, frames: Sequence[bytes]) -> None:
    """Send the frames on the pod's `lo`, in order."""
    sock = pod.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with sock:
        sock.bind(("lo", 0))
        for frame in frames:
            sock.send(frame)
