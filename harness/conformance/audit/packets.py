"""The packets in a network namespace, and which of them neither the kit nor the kernel has sent.

A case that uses this keeps its traffic on `lo`, so that only the kernel sends on the other links. A packet socket sees
packets of sockets as well as frames that are injected below them. The kernel counts its own announcements, so that an
injected one is one more than it has counted.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from ipaddress import IPv4Address, IPv6Address

from harness.sandbox.frames import (
    ETHERNET_HEADER,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    Frame,
    Segment,
    endpoint,
    parse_tcp,
    tcp_streams_of,
)
from harness.sandbox.links import SocketSource, hardware_addresses
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.recorder import PacketRecorder

_ETHERTYPE_ARP = 0x0806
_BUFFER = 32 << 20
_TCP, _UDP, _ICMP, _IGMP, _HOP_BY_HOP, _ICMPV6 = 6, 17, 1, 2, 0, 58
_RST = 0x04
_IGMP_KIND = "IGMP"
_ANNOUNCED = frozenset({131, 132, 133, 143})
"""The types of ICMPv6 that the kernel sends on a link that has just come up: router solicitations (RFC 4861, section
4.1) and reports of multicast listeners (RFC 2710, 3810). In a node it sends no neighbour solicitation for its own
address, because duplicate address detection is off."""
_COUNTED = re.compile(r"^/proc/net/dev_snmp6/(\S+):Icmp6OutType(\d+)\s+(\d+)$", re.MULTILINE)

Announcement = tuple[str, str]
"""The hardware address of a sender, as `02:00:0a:f4:00:01`, and a kind of message: `ICMPv6 143`, `IGMP`."""
Connection = frozenset[str]
"""The two ends of a connection, as `10.244.0.2:8080` and `[fd00::2]:8080`."""


def watch(place: SocketSource) -> PacketRecorder:
    """Record everything that passes on every link of a pod or a node. `require_whole` tells of lost frames."""
    return PacketRecorder(place, None, "a network namespace", buffer=_BUFFER)


def announced(*places: Node | Pod) -> Counter[Announcement]:
    """How many announcements the kernel has sent on each link of these places until now, by its own counters (proc(5)).

    IGMP has no counter for each link: the multicast packets of IPv4 of the whole place are an upper bound.
    """
    sent: Counter[Announcement] = Counter()
    for place in places:
        address_of = hardware_addresses(place)
        text = place.run(["sh", "-c", "grep -H Icmp6OutType /proc/net/dev_snmp6/*; grep ^IpExt /proc/net/netstat"])
        for link, kind, number in _COUNTED.findall(text):
            sent[address_of.get(link, ""), f"ICMPv6 {kind}"] += int(number)
        names, values = (line.split() for line in text.splitlines()[-2:])
        multicast = int(values[names.index("OutMcastPkts")])
        sent.update({(address, _IGMP_KIND): multicast for address in address_of.values()})
    return sent


def foreign(frames: Iterable[Frame], kits: Set[Connection], kernels: Mapping[Announcement, int]) -> list[str]:
    """Each kind of frame that is neither of the kit's own connections nor the kernel's, in words; pure.

    `kernels` are the announcements that the kernel has sent while the frames were recorded; a link shows each of them
    at most once. A frame of the kit's connections is foreign, too, if it is a reset or a copy of an earlier one: these
    connections end in order, and the kernel gives a retransmission another IP identification.
    """
    shown: Counter[tuple[str, Announcement]] = Counter()
    found: dict[str, int] = {}
    passed: set[tuple[str, bytes]] = set()
    for frame in frames:
        segment = _segment(frame)
        fault = ""
        if segment is not None and frame.link == "lo" and _connection(segment) in kits:
            copied = bool(segment.payload) and (frame.link, frame.data) in passed
            passed.add((frame.link, frame.data))
            fault = "a copy of " if copied else "a reset in " if _tcp_flags(frame.data) & _RST else ""
            if not fault:
                continue
        elif (announcement := _announcement(frame.data)) is not None:
            shown[frame.link, announcement] += 1
            if shown[frame.link, announcement] <= kernels.get(announcement, 0):
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
        return f"{'TCP' if protocol == _TCP else 'UDP'} to {endpoint(str(target), port)}"
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


def _announcement(frame: bytes) -> Announcement | None:
    """The announcement in a frame, whoever has sent it; None for another frame."""
    try:
        (ethertype,) = struct.unpack_from("!H", frame, 12)
        if ethertype not in (ETHERTYPE_IPV4, ETHERTYPE_IPV6):
            return None
        protocol, _, at = _ip(frame)
        sender = frame[6:12].hex(":")
        if protocol == _ICMPV6 and frame[at] in _ANNOUNCED:
            return sender, f"ICMPv6 {frame[at]}"
        return (sender, _IGMP_KIND) if protocol == _IGMP else None
    except (IndexError, struct.error, ValueError):
        return None


def _tcp_flags(frame: bytes) -> int:
    _, _, at = _ip(frame)
    return frame[at + 13]


def _connection(segment: Segment) -> Connection:
    flow = segment.flow
    return frozenset((endpoint(flow.src, flow.sport), endpoint(flow.dst, flow.dport)))
