"""Finds the IP packet in a frame of a capture file, by the file's link type (the registry in
draft-ietf-opsawg-linktype).

Of the two copies of a loopback frame in a capture on "any" it takes the incoming one, as the kernel's filter does in a
live capture (`tapper.capture.bpf`).
"""

from __future__ import annotations

from tapper.capture.bpf import ARPHRD_LOOPBACK, PACKET_OUTGOING
from tapper.streams.bounds import DAMAGED
from tapper.streams.encapsulation import NOT_IP, Inside, behind_ether_type, behind_ppp, inside_frame

NULL, ETHERNET, PPP, PPP_HDLC, RAW, LOOP, LINUX_SLL = 0, 1, 9, 50, 101, 108, 113
PPI, MPLS, IPV4, IPV6, LINUX_SLL2 = 192, 219, 228, 229, 276
_RAW_OF_BSD = frozenset({12, 14})  # what libpcap writes on systems where DLT_RAW has these numbers
_IP = frozenset({RAW, IPV4, IPV6, *_RAW_OF_BSD})
LINK_TYPES = _IP | {NULL, ETHERNET, PPP, PPP_HDLC, LOOP, LINUX_SLL, PPI, MPLS, LINUX_SLL2}
"""The link types that can be read."""
_HEADERS = {LINUX_SLL: 16, LINUX_SLL2: 20, PPI: 8}
"""The sizes of the headers that are read here."""
_ETH_P_MPLS = 0x8847


def ip_packet(link_type: int, frame: bytes) -> bytes | str | None:
    """The packet from its IP header on; or the name of what the frame holds instead; or None for the outgoing copy of a
    loopback frame."""
    if _is_outgoing_copy(link_type, frame):
        return None
    inside = _inside(link_type, frame)
    if isinstance(inside, str):
        return inside
    if inside >= len(frame):
        return DAMAGED
    return frame[inside:] if frame[inside] >> 4 in (4, 6) else NOT_IP


def _inside(link_type: int, frame: bytes) -> Inside:
    """Where the IP header of a frame begins, or the name of another protocol."""
    stop = len(frame)
    if link_type in _IP:
        return 0
    if stop < _HEADERS.get(link_type, 0):
        return DAMAGED
    if link_type in (NULL, LOOP):
        return 4  # behind an address family, of which every system has other numbers
    if link_type == ETHERNET:
        return inside_frame(frame, 0, stop)
    if link_type in (PPP, PPP_HDLC):
        return behind_ppp(frame, 0, stop)
    if link_type == MPLS:
        return behind_ether_type(_ETH_P_MPLS, frame, 0, stop)
    if link_type == LINUX_SLL:  # packet type, hardware type, address, protocol
        return behind_ether_type(int.from_bytes(frame[14:16], "big"), frame, 16, stop)
    if link_type == LINUX_SLL2:  # protocol, interface, hardware type, packet type, address
        return behind_ether_type(int.from_bytes(frame[0:2], "big"), frame, 20, stop)
    if link_type == PPI:  # version, flags, length, link type; little-endian
        start, within = int.from_bytes(frame[2:4], "little"), int.from_bytes(frame[4:8], "little")
        if not 8 <= start <= stop:
            return DAMAGED
        if within in LINK_TYPES and within != PPI:
            inside = _inside(within, frame[start:])
            return inside if isinstance(inside, str) else start + inside
        link_type = within
    return f"link type {link_type}"


def _is_outgoing_copy(link_type: int, frame: bytes) -> bool:
    if len(frame) < _HEADERS.get(link_type, 0):
        return False
    if link_type == LINUX_SLL:
        hardware, packet_type = frame[2:4], frame[0:2]
    elif link_type == LINUX_SLL2:
        hardware, packet_type = frame[8:10], frame[10:11]
    else:
        return False
    return int.from_bytes(hardware, "big") == ARPHRD_LOOPBACK and int.from_bytes(packet_type, "big") == PACKET_OUTGOING
