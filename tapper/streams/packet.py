"""One IP packet in, one TCP segment out, or nothing.

The packet is a view of the ring's memory and starts at the IP header, whatever the link was. Checksums are not looked
at: on lo and veth nobody fills them in (TP_STATUS_CSUMNOTREADY in linux/if_packet.h). Formats: RFC 791, RFC 8200,
RFC 9293 section 3.1.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10

Segment: TypeAlias = tuple[bytes, int, int, int, int, int]
"""(key, seq, ack, flags, start, stop): payload is packet[start:stop]. A plain tuple, since one is made for each packet.

The key is `source address + destination address + source port + destination port` in network byte order, as it lies
in a packet without options: 12 bytes for IPv4, 36 for IPv6. seq and ack are 32-bit numbers."""

_TCP = 6
_V4 = struct.Struct("!BxH2xHxB2x12sIIH").unpack_from
_V6 = struct.Struct("!B3xHBx36sIIH").unpack_from
_TCP_NUMBERS = struct.Struct("!IIH").unpack_from
_V4_SHORTEST = 40
_V6_SHORTEST = 60
_FRAGMENT_OFFSET = 0x1FFF

# Extension headers that may stand before TCP and share one format: hop-by-hop, routing, destination options. (A
# fragment header is not among them: a fragment's TCP header may be absent, and nothing here puts fragments together.)
_SKIPPABLE = frozenset({0, 43, 60})
_MOST_EXTENSIONS = 8


def parse(packet: memoryview) -> Segment | None:
    """Find the TCP segment in an IPv4 or IPv6 packet; None where there is none or where lengths contradict each other.

    The IP length cuts Ethernet's trailing padding off. An IP length of 0 means "to the end": segmentation offload and
    BIG TCP make packets that the 16-bit field cannot measure. A packet cut by the capture yields the bytes there are.
    """
    size = len(packet)
    if size < _V4_SHORTEST:
        return None
    version, total, fragment, protocol, key, seq, ack, bits = _V4(packet)
    if version == 0x45:
        if protocol != _TCP or fragment & _FRAGMENT_OFFSET:
            return None
        tcp = 20
        stop = total or size
    elif version >> 4 == 6:
        if size < _V6_SHORTEST:
            return None
        _, length, protocol, key, seq, ack, bits = _V6(packet)
        tcp = 40
        stop = 40 + length if length else size
        if protocol != _TCP:
            found = _skip_extensions(packet, protocol)
            if found is None or found + 20 > size:
                return None
            tcp = found
            key = key[:32] + bytes(packet[tcp : tcp + 4])
            seq, ack, bits = _TCP_NUMBERS(packet, tcp + 4)
    elif version >> 4 == 4 and version & 15 > 5:
        if protocol != _TCP or fragment & _FRAGMENT_OFFSET:
            return None
        tcp = (version & 15) * 4
        stop = total or size
        if tcp + 20 > size:
            return None
        key = key[:8] + bytes(packet[tcp : tcp + 4])
        seq, ack, bits = _TCP_NUMBERS(packet, tcp + 4)
    else:
        return None
    stop = min(stop, size)
    start = tcp + (bits >> 12) * 4
    if start < tcp + 20 or start > stop:
        return None
    return key, seq, ack, bits & 0x3F, start, stop


def _skip_extensions(packet: memoryview, header: int) -> int | None:
    """The offset of the TCP header behind IPv6 extension headers (RFC 8200 section 4), or None."""
    offset = 40
    for _ in range(_MOST_EXTENSIONS):
        if header == _TCP:
            return offset
        if header not in _SKIPPABLE or offset + 8 > len(packet):
            return None
        header, length = packet[offset], packet[offset + 1]
        offset += 8 + length * 8
    return None


def mirror(key: bytes) -> bytes:
    """The key of the opposite direction of the same connection."""
    width = (len(key) - 4) // 2
    return key[width : 2 * width] + key[:width] + key[-2:] + key[-4:-2]


def opener(flags: int) -> int | None:
    """Which side opens the connection, as a SYN tells: 0 whoever sent this packet, 1 the other; None without SYN."""
    return None if not flags & SYN else 1 if flags & ACK else 0
