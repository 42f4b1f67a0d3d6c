"""Finds the IP packet behind tags and inside tunnels.

Each function looks at memory[at:stop]. It returns the index of the IP header, or the name of the protocol that it finds
there and cannot look into. A length that leads out of the memory gives the name DAMAGED.

Formats: IEEE 802.1Q (VLAN), RFC 3032 (MPLS), RFC 4385 (pseudowire), RFC 2516 (PPPoE), RFC 2784 and RFC 2890 (GRE), RFC
7637 (NVGRE), RFC 7348 (VXLAN), draft-ietf-nvo3-vxlan-gpe, RFC 8926 (GENEVE), draft-foschiano-erspan, RFC 4023 and RFC
7510 (MPLS in IP and in UDP).
"""

from __future__ import annotations

from typing import Final, TypeAlias

from tapper.streams.bounds import DAMAGED

Inside: TypeAlias = int | str
"""The index of the IP header, or the name of another protocol."""

NOT_IP: Final = "other than IP"

ETH_P_IP: Final = 0x0800
ETH_P_IPV6: Final = 0x86DD
VLAN_TAGS: Final = frozenset({0x8100, 0x88A8, 0x9100})
_BRIDGED: Final = 0x6558  # an Ethernet frame
_MPLS: Final = frozenset({0x8847, 0x8848})
_PPPOE_SESSION: Final = 0x8864
_ERSPAN: Final = 0x88BE
_ERSPAN_III: Final = 0x22EB
_SMALLEST_ETHER_TYPE: Final = 0x0600  # a smaller number is the length of an IEEE 802.3 frame
_ETHER_NAMES: Final = {
    0x0806: "ARP",
    0x8035: "RARP",
    0x8863: "PPPoE discovery",
    0x888E: "EAPOL",
    0x88CC: "LLDP",
    0x88E5: "MACsec",
    0x894F: "NSH",
}
_PPP: Final = {0x0021: ETH_P_IP, 0x0057: ETH_P_IPV6, 0x0281: 0x8847}

IPIP: Final = 4
UDP: Final = 17
IPV6_IN_IP: Final = 41
GRE: Final = 47
_MPLS_IN_IP: Final = 137
_IP_NAMES: Final = {
    1: "ICMP",
    2: "IGMP",
    GRE: "GRE",
    50: "ESP",
    51: "AH",
    58: "ICMPv6",
    59: "no next header",
    89: "OSPF",
    103: "PIM",
    112: "VRRP",
    115: "L2TP",
    132: "SCTP",
}
VXLAN_PORTS: Final = frozenset({4789, 8472, 4790})  # by IANA, in older Linux, and VXLAN-GPE
GENEVE_PORT: Final = 6081
_MPLS_IN_UDP_PORT: Final = 6635
_VXLAN_VALID: Final = 0x08
_VXLAN_NEXT_PROTOCOL: Final = 0x04  # VXLAN-GPE
_GPE: Final = {1: ETH_P_IP, 2: ETH_P_IPV6, 3: _BRIDGED, 5: 0x8847}
_GRE_CHECKSUM: Final = 0x8000
_GRE_ROUTING: Final = 0x4000
_GRE_KEY: Final = 0x2000
_GRE_SEQUENCE: Final = 0x1000
_GRE_VERSION: Final = 0x0007

_MOST_TAGS: Final = 8
_MOST_LABELS: Final = 16


def inside_frame(memory: bytes, at: int, stop: int) -> Inside:
    """Inside an Ethernet frame without its preamble."""
    return behind_ether_type(_BRIDGED, memory, at, stop)


def behind_ether_type(kind: int, memory: bytes, at: int, stop: int) -> Inside:
    """Behind an EtherType, whose payload begins at `at`."""
    for _ in range(_MOST_TAGS):
        if kind in (ETH_P_IP, ETH_P_IPV6):
            return at if at < stop else DAMAGED
        if kind < 0:
            return DAMAGED
        if kind in VLAN_TAGS:  # priority and number, EtherType
            kind, at = _short(memory, at + 2, stop), at + 4
        elif kind == _BRIDGED:  # two addresses, EtherType
            kind, at = _short(memory, at + 12, stop), at + 14
        elif kind in _MPLS:
            at = _behind_labels(memory, at, stop)
            if at < 0 or at >= stop:
                return DAMAGED
            first = memory[at] >> 4
            if first in (4, 6):
                return at
            if first:
                return "MPLS"
            kind, at = _BRIDGED, at + 4  # a control word, then an Ethernet frame
        elif kind == _PPPOE_SESSION:  # version, code, session, length, the protocol of PPP
            protocol = _short(memory, at + 6, stop)
            if protocol >= 0 and protocol not in _PPP:
                return "PPP"
            kind, at = _PPP.get(protocol, -1), at + 8
        elif kind < _SMALLEST_ETHER_TYPE:  # a length; LLC and SNAP (RFC 1042), EtherType
            if at + 8 > stop:
                return DAMAGED
            if memory[at : at + 6] != b"\xaa\xaa\x03\0\0\0":
                return "IEEE 802.3 LLC"
            kind, at = _short(memory, at + 6, stop), at + 8
        else:
            return _ETHER_NAMES.get(kind, f"EtherType 0x{kind:04x}")
    return "too many tags"


def behind_ppp(memory: bytes, at: int, stop: int) -> Inside:
    """Behind the header of PPP in HDLC-like framing (RFC 1662)."""
    if stop - at >= 2 and memory[at] == 0xFF:
        at += 2
    protocol = _short(memory, at, stop)
    if protocol < 0:
        return DAMAGED
    return behind_ether_type(_PPP[protocol], memory, at + 2, stop) if protocol in _PPP else "PPP"


def inside_tunnel(protocol: int, memory: bytes, at: int, stop: int) -> Inside:
    """Inside the payload of an IP packet with this protocol number, if it is a tunnel."""
    if protocol in (IPIP, IPV6_IN_IP):
        return at if at < stop else DAMAGED
    if protocol == UDP:
        return _inside_udp(memory, at, stop)
    if protocol == GRE:
        return _inside_gre(memory, at, stop)
    if protocol == _MPLS_IN_IP:
        return behind_ether_type(0x8847, memory, at, stop)
    return _IP_NAMES.get(protocol, f"IP protocol {protocol}")


def _inside_udp(memory: bytes, at: int, stop: int) -> Inside:
    port, at = _short(memory, at + 2, stop), at + 8
    if port in VXLAN_PORTS:
        if at + 8 > stop:
            return DAMAGED
        flags = memory[at]
        if not flags & _VXLAN_VALID:
            return "UDP"
        kind = _GPE.get(memory[at + 3], 0xFFFF) if flags & _VXLAN_NEXT_PROTOCOL else _BRIDGED
        return behind_ether_type(kind, memory, at + 8, stop)
    if port == GENEVE_PORT:
        if at + 8 > stop:
            return DAMAGED
        if memory[at] >> 6:  # its version
            return "UDP"
        options = (memory[at] & 0x3F) * 4
        return behind_ether_type(_short(memory, at + 2, stop), memory, at + 8 + options, stop)
    if port == _MPLS_IN_UDP_PORT:
        return behind_ether_type(0x8847, memory, at, stop)
    return "UDP" if port >= 0 else DAMAGED


def _inside_gre(memory: bytes, at: int, stop: int) -> Inside:
    flags, kind = _short(memory, at, stop), _short(memory, at + 2, stop)
    if kind < 0:
        return DAMAGED
    if flags & (_GRE_VERSION | _GRE_ROUTING):
        return "GRE"  # PPTP, or source routes, which RFC 2784 has abolished
    at += 4
    for field in (_GRE_CHECKSUM, _GRE_KEY, _GRE_SEQUENCE):
        if flags & field:
            at += 4
    if kind == _ERSPAN:  # type I has no header and no sequence number
        kind, at = _BRIDGED, at + 8 if flags & _GRE_SEQUENCE else at
    elif kind == _ERSPAN_III:
        last = _short(memory, at + 10, stop)
        if last < 0:
            return DAMAGED
        frame_type = last >> 10 & 0x1F  # 0 for an Ethernet frame, 2 for an IP packet
        at += 20 if last & 1 else 12
        if frame_type == 2:
            return at if at < stop else DAMAGED
        kind = _BRIDGED
    return behind_ether_type(kind, memory, at, stop)


def _behind_labels(memory: bytes, at: int, stop: int) -> int:
    """Behind a stack of MPLS labels; -1 where it does not end."""
    for _ in range(_MOST_LABELS):
        if at + 4 > stop:
            return -1
        at += 4
        if memory[at - 2] & 1:  # the bottom of the stack
            return at
    return -1


def _short(memory: bytes, at: int, stop: int) -> int:
    """Two octets; -1 where the memory ends before."""
    return -1 if at + 2 > stop else memory[at] << 8 | memory[at + 1]
