"""The IP packet in a frame of a capture file, by the file's link type (the registry in draft-ietf-opsawg-linktype).

It lets pass what the kernel's filter lets pass on a live capture (`tapper.capture.bpf`): TCP, and of the two copies of
a loopback frame that a capture on "any" has, the one coming in.
"""

from __future__ import annotations

from tapper.capture.bpf import ARPHRD_LOOPBACK, ETH_P_IP, ETH_P_IPV6, PACKET_OUTGOING

NULL, ETHERNET, RAW, LOOP, LINUX_SLL, IPV4, IPV6, LINUX_SLL2 = 0, 1, 101, 108, 113, 228, 229, 276
LINK_TYPES = frozenset({NULL, ETHERNET, RAW, LOOP, LINUX_SLL, IPV4, IPV6, LINUX_SLL2})
"""What can be read."""

_IP_AT_4 = frozenset({NULL, LOOP})  # an address family before it, of which every system has other numbers
_BARE = frozenset({RAW, IPV4, IPV6})
_VLAN_TAGS = frozenset({0x8100, 0x88A8})  # IEEE 802.1Q: four more bytes each
_TCP = 6
_BEFORE_TCP = frozenset({_TCP, 0, 43, 60})  # and IPv6 extension headers behind which it may follow


def tcp_over_ip(link_type: int, frame: bytes) -> bytes | None:
    """The packet from its IP header on, where it is TCP, or may be behind extension headers; else None."""
    if link_type in _BARE:
        packet = frame
    elif link_type in _IP_AT_4:
        packet = frame[4:]
    else:
        start = _ETHER_START[link_type](frame)
        if start is None:
            return None
        packet = frame[start:]
    if len(packet) < 20:
        return None
    if packet[0] >> 4 == 4:
        first = not int.from_bytes(packet[6:8], "big") & 0x1FFF  # of an unfragmented packet, or the first fragment
        return packet if packet[9] == _TCP and first else None
    return packet if packet[0] >> 4 == 6 and packet[6] in _BEFORE_TCP else None


def _ethernet(frame: bytes) -> int | None:
    start = 14
    while int.from_bytes(frame[start - 2 : start], "big") in _VLAN_TAGS:
        start += 4
    return _if_ip(frame[start - 2 : start], start)


def _cooked(frame: bytes) -> int | None:
    """Packet type, hardware type, address, protocol: 16 bytes."""
    return None if _second_copy(frame[2:4], frame[0:2]) else _if_ip(frame[14:16], 16)


def _cooked_2(frame: bytes) -> int | None:
    """Protocol, interface, hardware type, packet type, address: 20 bytes."""
    return None if _second_copy(frame[8:10], frame[10:11]) else _if_ip(frame[0:2], 20)


def _second_copy(hardware: bytes, packet_type: bytes) -> bool:
    return int.from_bytes(hardware, "big") == ARPHRD_LOOPBACK and int.from_bytes(packet_type, "big") == PACKET_OUTGOING


def _if_ip(protocol: bytes, start: int) -> int | None:
    return start if int.from_bytes(protocol, "big") in (ETH_P_IP, ETH_P_IPV6) else None


_ETHER_START = {ETHERNET: _ethernet, LINUX_SLL: _cooked, LINUX_SLL2: _cooked_2}
