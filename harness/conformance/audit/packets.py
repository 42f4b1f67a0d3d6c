"""What is sent in a network namespace, and which of it neither the kit nor the kernel has sent.

A case that uses this keeps its traffic on `lo`, so that on all other links the kernel alone has something to say. A
packet socket sees what sockets send as well as frames that are injected below them.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Self

from harness.errors import InternalError
from harness.sandbox.bare_node import BareNode
from harness.sandbox.frames import (
    ETHERNET_HEADER,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    Segment,
    parse_tcp,
    tcp_streams_of,
)
from harness.sandbox.pod import Pod

_ETH_P_ALL = 0x0003  # linux/if_ether.h
_ETHERTYPE_ARP = 0x0806
_PACKET_OUTGOING = 4  # linux/if_packet.h: the first of the two copies that a raw socket gets on lo
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_BUFFER = 32 << 20
_LARGEST_FRAME = 1 << 18
_TCP, _UDP, _ICMP, _IGMP, _HOP_BY_HOP, _ICMPV6 = 6, 17, 1, 2, 0, 58
_RST = 0x04
# Router solicitation (RFC 4861, section 4.1) and the reports of multicast listeners (RFC 2710, 3810): what the kernel
# says by itself of a link that has just come up. Neighbour solicitation is among it where it is for its own address.
_KERNELS_ICMPV6 = frozenset({131, 132, 133, 143})
_NEIGHBOUR_SOLICITATION = 135

Connection = frozenset[str]
"""Its two ends, as `10.244.0.2:8080` and `[fd00::2]:8080`."""


@dataclass(frozen=True, slots=True)
class Caught:
    """A frame that passed on a link of the node or of a pod."""

    link: str
    data: bytes
    """From the Ethernet header on."""


class PacketWatch:
    """Everything that passes in a place, in both directions, from construction to `close`.

    It lies in the kernel until it is read. It pins a pod's network namespace.
    """

    def __init__(self, place: BareNode | Pod) -> None:
        self._frames: list[Caught] = []
        self._socket = place.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        try:
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
            except PermissionError:  # an ordinary user has to do with what the machine allows
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise

    def frames(self) -> list[Caught]:
        """All so far; of the two copies on `lo` one. Raises `InternalError` where the kernel had to drop some."""
        while True:
            try:
                data, address = self._socket.recvfrom(_LARGEST_FRAME)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENETDOWN:  # said once, when a link goes
                    raise
                continue
            if address[0] != "lo" or address[2] != _PACKET_OUTGOING:
                self._frames.append(Caught(address[0], data))
        dropped = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1]
        if dropped:
            raise InternalError(f"the kernel dropped {dropped} of the packets that are watched")
        return list(self._frames)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def foreign(frames: Iterable[Caught], kits: Set[Connection]) -> list[str]:
    """In words, each kind of frame that is neither of the kit's own connections nor the kernel's; pure.

    A frame of a connection of the kit's is foreign, too, where it is a reset, or a copy of one that has passed: the
    kit's connections end in order, and the kernel numbers what it sends again anew.
    """
    found: dict[str, int] = {}
    passed: set[tuple[str, bytes]] = set()
    for each in frames:
        segment = parse_tcp(each.data) if len(each.data) >= ETHERNET_HEADER else None
        if segment is not None and frozenset((_end(segment, 0), _end(segment, 1))) in kits and each.link == "lo":
            copied = bool(segment.payload) and (each.link, each.data) in passed
            passed.add((each.link, each.data))
            strange = "a copy of " if copied else "a reset in " if _tcp_flags(each.data) & _RST else ""
            if not strange:
                continue
            words = strange + describe(each.data)
        elif _is_kernels(each.data):
            continue
        else:
            words = describe(each.data)
        key = f"{words} on {each.link}"
        found[key] = found.get(key, 0) + 1
    return [key if number == 1 else f"{key} ({number} times)" for key, number in found.items()]


def carried(frames: Iterable[Caught], leave_out: Set[frozenset[str]] = frozenset()) -> Iterator[bytes]:
    """The bytes that passed, to be searched: of each frame, and of each direction of a TCP connection put together.

    `leave_out` are pairs of addresses between which anything may pass.
    """
    segments: list[Segment] = []
    for each in frames:
        segment = parse_tcp(each.data) if len(each.data) >= ETHERNET_HEADER else None
        if segment is None:
            yield each.data
        elif frozenset((segment.flow.src, segment.flow.dst)) not in leave_out:
            segments.append(segment)
    yield from tcp_streams_of(segments, holes=b"\0").values()


def describe(frame: bytes) -> str:
    """A frame in a few words: `ARP for 10.244.0.3`, `UDP to 10.96.0.10:53`."""
    try:
        return _described(frame)
    except (IndexError, struct.error, ValueError):
        return f"a frame of {len(frame)} bytes that is cut in its headers"


def _described(frame: bytes) -> str:
    (kind,) = struct.unpack_from("!H", frame, 12)
    if kind == _ETHERTYPE_ARP:
        return f"ARP for {IPv4Address(frame[38:42])}"  # RFC 826: the target's address, behind 24 bytes
    if kind not in (ETHERTYPE_IPV4, ETHERTYPE_IPV6):
        return f"a frame of type {kind:#06x}"
    protocol, target, at = _ip(frame)
    if protocol in (_TCP, _UDP):
        (port,) = struct.unpack_from("!H", frame, at + 2)
        host = f"[{target}]" if isinstance(target, IPv6Address) else target
        return f"{'TCP' if protocol == _TCP else 'UDP'} to {host}:{port}"
    if protocol in (_ICMP, _ICMPV6):
        return f"{'ICMP' if protocol == _ICMP else 'ICMPv6'} of type {frame[at]} to {target}"
    return f"IP protocol {protocol} to {target}"


def _ip(frame: bytes) -> tuple[int, IPv4Address | IPv6Address, int]:
    """Protocol, destination, and where the protocol's header begins, behind hop-by-hop options."""
    at = ETHERNET_HEADER
    if frame[at] >> 4 == 4:
        return frame[at + 9], IPv4Address(frame[at + 16 : at + 20]), at + (frame[at] & 0x0F) * 4
    protocol, target, header = frame[at + 6], IPv6Address(frame[at + 24 : at + 40]), at + 40
    if protocol == _HOP_BY_HOP:
        protocol, header = frame[header], header + 8 * (frame[header + 1] + 1)
    return protocol, target, header


def _is_kernels(frame: bytes) -> bool:
    """Whether it is what the kernel sends by itself: on a link that has come up, and of groups that it joins."""
    try:
        (kind,) = struct.unpack_from("!H", frame, 12)
        if kind not in (ETHERTYPE_IPV4, ETHERTYPE_IPV6):
            return False
        protocol, _, at = _ip(frame)
        if protocol == _ICMPV6:
            unspecified = not any(frame[ETHERNET_HEADER + 8 : ETHERNET_HEADER + 24])
            return frame[at] in _KERNELS_ICMPV6 or (frame[at] == _NEIGHBOUR_SOLICITATION and unspecified)
        return protocol == _IGMP
    except (IndexError, struct.error, ValueError):
        return False


def _tcp_flags(frame: bytes) -> int:
    _, _, at = _ip(frame)
    return frame[at + 13]


def _end(segment: Segment, which: int) -> str:
    flow = segment.flow
    host, port = ((flow.src, flow.sport), (flow.dst, flow.dport))[which]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
