"""Finds the IP packet in a frame of a capture file, by the file's link type (the registry in
draft-ietf-opsawg-linktype).

It accepts what the kernel's filter accepts in a live capture (`tapper.capture.bpf`): TCP, and of the two copies of a
loopback frame in a capture on "any" the incoming one.
"""

from __future__ import annotations

from tapper.capture.bpf import ARPHRD_LOOPBACK, ETH_P_IP, ETH_P_IPV6, PACKET_OUTGOING
from tapper.streams.packet import EXTENSIONS, TCP

NULL, ETHERNET, RAW, LOOP, LINUX_SLL, IPV4, IPV6, LINUX_SLL2 = 0, 1, 101, 108, 113, 228, 229, 276
LINK_TYPES = frozenset({NULL, ETHERNET, RAW, LOOP, LINUX_SLL, IPV4, IPV6, LINUX_SLL2})
"""The link types that can be read."""
_VLAN_TAGS = frozenset({0x8100, 0x88A8})  # IEEE 802.1Q: four more bytes each
_NEXT_HEADERS = EXTENSIONS | {TCP}


def tcp_over_ip(link_type: int, frame: bytes) -> bytes | None:
    """The packet from its IP header on, if it is TCP or may be TCP behind extension headers; else None."""
    start = _ip_header(link_type, frame)
    if start is None:
        return None
    packet = frame[start:]
    if len(packet) < 20:
        return None
    if packet[0] >> 4 == 4:
        offset = int.from_bytes(packet[6:8], "big") & 0x1FFF  # 0 in an unfragmented packet and in a first fragment
        return packet if packet[9] == TCP and not offset else None
    return packet if packet[0] >> 4 == 6 and packet[6] in _NEXT_HEADERS else None


def _ip_header(link_type: int, frame: bytes) -> int | None:
    """Where the IP header of a frame begins; None for another protocol, and for the outgoing copy of a loopback
    frame."""
    if link_type in (RAW, IPV4, IPV6):
        return 0
    if link_type in (NULL, LOOP):
        return 4  # behind an address family, of which every system has other numbers
    if link_type == ETHERNET:
        start = 14
        while int.from_bytes(frame[start - 2 : start], "big") in _VLAN_TAGS:
            start += 4
        protocol = frame[start - 2 : start]
    elif link_type == LINUX_SLL:  # packet type, hardware type, address, protocol
        start, protocol = 16, frame[14:16]
        if _is_outgoing_copy(frame[2:4], frame[0:2]):
            return None
    else:  # LINUX_SLL2: protocol, interface, hardware type, packet type, address
        start, protocol = 20, frame[0:2]
        if _is_outgoing_copy(frame[8:10], frame[10:11]):
            return None
    return start if int.from_bytes(protocol, "big") in (ETH_P_IP, ETH_P_IPV6) else None


def _is_outgoing_copy(hardware: bytes, packet_type: bytes) -> bool:
    return int.from_bytes(hardware, "big") == ARPHRD_LOOPBACK and int.from_bytes(packet_type, "big") == PACKET_OUTGOING
