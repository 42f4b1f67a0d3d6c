"""The checksums of IPv4 and TCP (RFC 791, 9293, 1071): whether a receiver accepts a packet, and how it would. Pure."""

from __future__ import annotations

import struct

_TCP = 6
_TCP_HEADER, _TCP_CHECKSUM_AT, _IPV4_CHECKSUM_AT = 20, 16, 10
_FRAGMENT = 0x3FFF  # more fragments, or not the first one: the checksum covers bytes that a fragment lacks


def receiver_refuses(ip: bytes) -> bool:
    """Whether the TCP segment in a whole IP packet has a wrong checksum. False if there is no whole segment.

    Only for packets whose checksum is filled in: the kernel leaves it out of packets on `lo`.
    """
    segment = _segment(ip)
    if segment is None:
        return False
    addresses, tcp = segment
    return _sum(addresses + struct.pack("!II", _TCP, len(tcp)) + tcp) != 0xFFFF


def with_checksums(ip: bytes) -> bytes:
    """The packet with the checksums that its bytes need: of IPv4's header and of TCP. Without a whole TCP segment the
    packet as it is."""
    segment = _segment(ip)
    if segment is None or len(segment[1]) < _TCP_HEADER:
        return ip
    addresses, tcp = segment
    packet = bytearray(ip)
    at = 40 if ip[0] >> 4 == 6 else (ip[0] & 0x0F) * 4
    blank = tcp[:_TCP_CHECKSUM_AT] + bytes(2) + tcp[_TCP_CHECKSUM_AT + 2 :]
    total = _sum(addresses + struct.pack("!II", _TCP, len(blank)) + blank)
    struct.pack_into("!H", packet, at + _TCP_CHECKSUM_AT, 0xFFFF - total)
    if ip[0] >> 4 == 4:
        struct.pack_into("!H", packet, _IPV4_CHECKSUM_AT, 0)
        struct.pack_into("!H", packet, _IPV4_CHECKSUM_AT, 0xFFFF - _sum(bytes(packet[:at])))
    return bytes(packet)


def _segment(ip: bytes) -> tuple[bytes, bytes] | None:
    """Both addresses, packed, and the TCP segment; IPv6 extension headers are not followed."""
    if len(ip) >= 20 and ip[0] >> 4 == 4:
        total, fragment, protocol = struct.unpack_from("!2xH2xHxB", ip)
        at, addresses = (ip[0] & 0x0F) * 4, ip[12:20]
        if fragment & _FRAGMENT:
            return None
    elif len(ip) >= 40 and ip[0] >> 4 == 6:
        length, protocol = struct.unpack_from("!4xHB", ip)
        total, at, addresses = 40 + length, 40, ip[8:40]
    else:
        return None
    return (addresses, ip[at:total]) if protocol == _TCP and at <= total <= len(ip) else None


def _sum(data: bytes) -> int:
    """The words of 16 bits added up in ones' complement: 0xFFFF for data that hold their own checksum."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
