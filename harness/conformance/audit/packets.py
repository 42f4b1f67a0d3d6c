"""The packets in a network namespace, and which of them neither the kit nor the kernel has sent.

A case that uses this keeps its traffic on `lo`, so that only the kernel sends on the other links. A packet socket sees
packets of sockets as well as frames that are injected below them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Set
from ipaddress import IPv4Address, IPv6Address

from harness.sandbox.frames import (
    ETHERNET_HEADER,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    Frame,
    Segment,
    parse_tcp,
    tcp_streams_of,
)
from harness.sandbox.links import SocketSource
from harness.sandbox.recorder import PacketRecorder

_ETHERTYPE_ARP = 0x0806
_BUFFER = 32 << 20
_TCP, _UDP, _ICMP, _IGMP, _HOP_BY_HOP, _ICMPV6 = 6, 17, 1, 2, 0, 58
_RST = 0x04
# Router solicitation (RFC 4861, section 4.1) and the reports of multicast listeners (RFC 2710, 3810): the kernel sends
# them on a link that has just come up. It also sends neighbour solicitations for its own address.
_KERNELS_ICMPV6 = frozenset({131, 132, 133, 143})
_NEIGHBOUR_SOLICITATION = 135

Connection = frozenset[str]
"""The two ends of a connection, as `10.244.0.2:8080` and `[fd00::2]:8080`."""


def watch(place: SocketSource) -> PacketRecorder:
    """Record everything that passes on every link of a pod or a node. `require_whole` tells of lost frames."""
    return PacketRecorder(place, None, "a network namespace", buffer=_BUFFER)


def foreign(frames: Iterable[Frame], kits: Set[Connection]) -> list[str]:
    """Each kind of frame that is neither of the kit's own connections nor the kernel's, in words; pure.

    A frame of the kit's connections is foreign, too, if it is a reset or a copy of an earlier one: these connections
    end in order, and the kernel gives a retransmission another IP identification.
    """
    found: dict[str, int] = {}
    passed: set[tuple[str, bytes]] = set()
    for frame in frames:
        segment = _segment(frame)
        fault = ""
        if segment is not None and frozenset((_end(segment, 0), _end(segment, 1))) in kits and frame.link == "lo":
            copied = bool(segment.payload) and (frame.link, frame.data) in passed
            passed.add((frame.link, frame.data))
            fault = "a copy of " if copied else "a reset in " if _tcp_flags(frame.data) & _RST else ""
            if not fault:
                continue
        elif _is_kernels(frame.data):
            continue
        key = f"{fault}{describe(frame.data)} on {frame.link}"
        found[key] = found.get(key, 0) + 1
    return [key if number == 1 else f"{key} ({number} times)" for key, number in found.items()]


def carried(frames: Iterable[Frame], leave_out: Set[frozenset[str]] = frozenset()) -> Iterator[bytes]:
    """The bytes to search: of each frame without TCP, and of each direction of a TCP connection in one piece.

    `leave_out` are pairs of addresses between which anything may pass.
    """
    segments: list[Segment] = []
    for frame in frames:
        segment = _segment(frame)
        if segment is None:
            yield frame.data
        elif frozenset((segment.flow.src, segment.flow.dst)) not in leave_out:
            segments.append(segment)
    yield from tcp_streams_of(segments, holes=b"\0").values()


def _segment(frame: Frame) -> Segment | None:
    return parse_tcp(frame.data) if len(frame.data) >= ETHERNET_HEADER else None


def describe(frame: bytes) -> str:
    """A frame in a few words: `ARP for 10.244.0.3`, `UDP to 10.96.0.10:53`."""
    try:
        return _described(frame)
    except (IndexError, struct.error, ValueError):
        return f"a frame of {len(frame)} bytes that is cut in its headers"


def _described(frame: bytes) -> str:
    (kind,) = struct.unpack_from("!H", frame, 12)
    if kind == _ETHERTYPE_ARP:
        return f"ARP for {IPv4Address(frame[38:42])}"  # RFC 826: the target's address, after 24 bytes
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
    """Protocol, destination, and the offset of the protocol's header, after hop-by-hop options."""
    at = ETHERNET_HEADER
    if frame[at] >> 4 == 4:
        return frame[at + 9], IPv4Address(frame[at + 16 : at + 20]), at + (frame[at] & 0x0F) * 4
    protocol, target, header = frame[at + 6], IPv6Address(frame[at + 24 : at + 40]), at + 40
    if protocol == _HOP_BY_HOP:
        protocol, header = frame[header], header + 8 * (frame[header + 1] + 1)
    return protocol, target, header


def _is_kernels(frame: bytes) -> bool:
    """Whether the kernel sends such a frame by itself: on a link that has come up, and about its multicast groups."""
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
