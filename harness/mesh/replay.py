"""A sidecar's traffic legs as packets, for tests that need no proxy.

`conversation` builds the frames of one TCP connection as they appear on a pod's `lo`; `play` puts them there. The
frames are a plain list: drop, repeat, reorder or cut them before playing. Over IPv4 the pod's own TCP never answers,
because the kernel refuses packets that claim to come from its own addresses but were not sent by it. Over IPv6 it does
not look at that: `keep_out` the pod's TCP first.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from harness.mesh.envoy_config import LOOPBACK, OUTBOUND_PORT
from harness.mesh.workload import PASSTHROUGH_SOURCE
from harness.sandbox.checksums import with_checksums
from harness.sandbox.pod import Pod

DEFAULT_MSS = 1400
_CLIENT_ISN = 1_000_000
_SERVER_ISN = 2_000_000_000
_MACS = bytes(12)
_TCP, _TTL, _WINDOW = 6, 64, 8192
_FLAGS = {"F": 0x01, "S": 0x02, "R": 0x04, "P": 0x08, "A": 0x10}
_PEER = {"client": "server", "server": "client"}


@dataclass(frozen=True, slots=True)
class ReplayLeg:
    """Who talks to whom on `lo`: (address, port) pairs. Replies may come from elsewhere than requests went to."""

    client: tuple[str, int]
    server: tuple[str, int]
    replies_from: tuple[str, int]


def inbound(pod: Pod, port: int, source_port: int = 40001, *, ipv6: bool = False, localhost: bool = False) -> ReplayLeg:
    """The decrypted leg to an application: from 127.0.0.6 to the pod's address, or all on 127.0.0.1."""
    family = 6 if ipv6 else 4
    address = str(pod.ipv6 if ipv6 else pod.ipv4)
    source = PASSTHROUGH_SOURCE[family]
    if localhost:
        address = source = LOOPBACK[family]
    return ReplayLeg((source, source_port), (address, port), (address, port))


def outbound(pod: Pod, destination: tuple[str, int], source_port: int = 40002) -> ReplayLeg:
    """The leg from an application to its sidecar: redirected to 15001, answered in the destination's name."""
    ipv6 = ":" in destination[0]
    address = str(pod.ipv6 if ipv6 else pod.ipv4)
    return ReplayLeg((address, source_port), (LOOPBACK[6 if ipv6 else 4], OUTBOUND_PORT), destination)


def conversation(
    leg: ReplayLeg,
    exchanges: Iterable[tuple[bytes, bytes]],
    *,
    handshake: bool = True,
    close: bool = True,
    mss: int = DEFAULT_MSS,
    client_isn: int = _CLIENT_ISN,
    server_isn: int = _SERVER_ISN,
) -> list[bytes]:
    """Ethernet frames of a connection that carries (request, response) pairs, each side's bytes in pieces of `mss`."""
    frames = FrameMaker(leg, client_isn=client_isn, server_isn=server_isn)
    conversed = frames.handshake() if handshake else frames.skip_handshake()
    for request, response in exchanges:
        conversed += frames.data("client", request, mss) + frames.data("server", response, mss)
    return conversed + (frames.fin() if close else [])


class FrameMaker:
    """Makes the Ethernet frames of one connection, in order; sides are `client` and `server`."""

    def __init__(self, leg: ReplayLeg, *, client_isn: int = _CLIENT_ISN, server_isn: int = _SERVER_ISN) -> None:
        self._leg = leg
        self._sequence = {"client": client_isn, "server": server_isn}

    def handshake(self) -> list[bytes]:
        return [self._frame("client", "S"), self._frame("server", "SA"), self._frame("client", "A")]

    def skip_handshake(self) -> list[bytes]:
        """Continue as after a handshake that was not sent."""
        self._sequence = {side: number + 1 & 0xFFFFFFFF for side, number in self._sequence.items()}
        return []

    def data(self, side: str, data: bytes, mss: int = DEFAULT_MSS) -> list[bytes]:
        """The data of one side, in pieces of `mss` bytes."""
        return [self._frame(side, "PA", data[start : start + mss]) for start in range(0, len(data), mss)]

    def fin(self, first: str = "client") -> list[bytes]:
        """The frames of an orderly end that one side begins."""
        other = _PEER[first]
        return [self._frame(first, "FA"), self._frame(other, "FA"), self._frame(first, "A")]

    def rst(self, side: str) -> list[bytes]:
        """The frame with which one side resets it."""
        return [self._frame(side, "RA")]

    def _frame(self, side: str, flags: str, payload: bytes = b"") -> bytes:
        leg, peer = self._leg, _PEER[side]
        (source, sport), (target, dport) = (
            (leg.client, leg.server) if side == "client" else (leg.replies_from, leg.client)
        )
        acknowledged = self._sequence[peer] if "A" in flags else 0
        numbers, bits = (self._sequence[side], acknowledged), sum(_FLAGS[flag] for flag in flags)
        # ports, sequence numbers, length of the header, flags, window; checksum and urgent pointer are still zero
        tcp = struct.pack("!HHIIBBHHH", sport, dport, *numbers, 5 << 4, bits, _WINDOW, 0, 0)
        self._sequence[side] = (self._sequence[side] + len(payload) + sum(flag in "SF" for flag in flags)) & 0xFFFFFFFF
        return packet(source, target, tcp + payload)


def packet(source: str, target: str, segment: bytes) -> bytes:
    """An Ethernet frame as lo has it, with an IP packet in it (RFC 791, 8200), and in that a TCP segment (RFC 9293),
    whose checksum is filled in."""
    src, dst = ip_address(source).packed, ip_address(target).packed
    if len(src) == 16:
        kind, head = b"\x86\xdd", struct.pack("!IHBB", 6 << 28, len(segment), _TCP, _TTL)
    else:
        kind, head = b"\x08\x00", struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 1, 0, _TTL, _TCP, 0)
    return _MACS + kind + with_checksums(head + src + dst + segment)


def play(pod: Pod, frames: Sequence[bytes]) -> None:
    """Send the frames on the pod's `lo`, in order."""
    with sender(pod) as sock:
        for frame in frames:
            sock.send(frame)


def keep_out(pod: Pod, first_port: int, last_port: int) -> None:
    """Hide frames that are played over IPv6 with client ports of this range from the pod's own TCP. Captures still see
    them."""
    ports = f"{first_port}:{last_port}"
    rules = [f"-A INPUT -i lo -p tcp --{end} {ports} -j DROP" for end in ("sport", "dport")]
    pod.run(["ip6tables-restore", "--noflush"], text="\n".join(["*filter", *rules, "COMMIT", ""]))


def sender(pod: Pod) -> socket.socket:
    """A socket that sends frames on the pod's `lo`; the caller closes it."""
    sock = pod.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        sock.bind(("lo", 0))
    except BaseException:
        sock.close()
        raise
    return sock
