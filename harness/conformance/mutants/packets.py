"""Filters over the packets of a pcapng stream, as the reference writes it (`-o pcapng`): little-endian, packets that
begin at the IP header (LINKTYPE_RAW), nanoseconds. Pure.

Fields of TCP are read as RFC 9293, section 3.1, has them; IPv6 extension headers are not followed.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

FIN, SYN, RST = 0x01, 0x02, 0x04
_INTERFACE, _ENHANCED_PACKET = 1, 6
_IF_NAME = 2
_TCP = 6
_BLOCK_ENDS = 12  # type and length before a block's body, its length again after it

End: TypeAlias = tuple[bytes, int]
"""An address as it stands in the packet, and a port."""


@dataclass(frozen=True, slots=True)
class RawPacket:
    """One packet. `interface` is the name that the stream gives its interface: `10.244.0.2 lo` for a pod's."""

    interface: str
    ticks: int
    """Nanoseconds since 1970."""
    length: int
    """On the wire; `data` may be shorter."""
    data: bytes


@dataclass(frozen=True, slots=True)
class TcpFields:
    """The fields that are read of a TCP packet."""

    source: End
    destination: End
    seq: int
    ack: int
    flags: int
    payload: bytes
    header_at: int
    """Where TCP's header begins in the packet."""
    payload_at: int

    @property
    def flow(self) -> tuple[End, End]:
        """One direction of its connection."""
        return self.source, self.destination

    @property
    def connection(self) -> frozenset[End]:
        """Both directions. For two addresses that a redirect rule has changed they are two connections."""
        return frozenset((self.source, self.destination))


PacketFilter: TypeAlias = Callable[[Iterator[RawPacket]], Iterator[RawPacket]]


def over_packets(change: PacketFilter) -> Callable[[Iterable[bytes]], Iterator[bytes]]:
    """A filter over bytes that come in pieces, cut anywhere. Blocks that are no packets keep their place."""

    def changed(chunks: Iterable[bytes]) -> Iterator[bytes]:
        passing: deque[bytes] = deque()
        names: list[str] = []

        def packets() -> Iterator[RawPacket]:
            for kind, block in _blocks(chunks):
                if kind == _ENHANCED_PACKET:
                    yield _packet(block, names)
                    continue
                if kind == _INTERFACE:
                    names.append(_name(block))
                passing.append(block)

        for packet in change(packets()):
            while passing:
                yield passing.popleft()
            yield _block(packet, names)
        yield from passing

    return changed


def tcp(packet: RawPacket) -> TcpFields | None:
    """The TCP packet in a packet; None where there is none, or not all of its header."""
    data = packet.data
    try:
        if data[0] >> 4 == 4:
            at, protocol, addresses, width = (data[0] & 15) * 4, data[9], 12, 4
        else:
            at, protocol, addresses, width = 40, data[6], 8, 16
        if protocol != _TCP:
            return None
        sport, dport, seq, ack = struct.unpack_from("!HHII", data, at)
        payload_at = at + (data[at + 12] >> 4) * 4
        flags = data[at + 13]
    except (IndexError, struct.error):
        return None
    source, destination = data[addresses : addresses + width], data[addresses + width : addresses + 2 * width]
    return TcpFields((source, sport), (destination, dport), seq, ack, flags, data[payload_at:], at, payload_at)


def with_numbers(packet: RawPacket, segment: TcpFields, seq: int, ack: int) -> RawPacket:
    """The packet with another sequence and acknowledgement number; checksums stay, as nobody looks at them on lo."""
    at = segment.header_at + 4
    numbers = struct.pack("!II", seq & 0xFFFF_FFFF, ack & 0xFFFF_FFFF)
    return replace(packet, data=packet.data[:at] + numbers + packet.data[at + 8 :])


def with_payload(packet: RawPacket, segment: TcpFields, payload: bytes) -> RawPacket:
    """The packet with another payload of the same length."""
    return replace(packet, data=packet.data[: segment.payload_at] + payload)


def refusing(unwanted: Callable[[TcpFields], bool]) -> PacketFilter:
    """Drops TCP packets of a kind."""

    def changed(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
        for packet in packets:
            segment = tcp(packet)
            if segment is None or not unwanted(segment):
                yield packet

    return changed


def _blocks(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Whole blocks, by type."""
    rest = b""
    for chunk in chunks:
        rest += chunk
        while len(rest) >= _BLOCK_ENDS:
            kind, length = struct.unpack_from("<II", rest)
            if len(rest) < length:
                break
            yield kind, rest[:length]
            rest = rest[length:]


def _name(block: bytes) -> str:
    """The if_name of an interface description block (draft-ietf-opsawg-pcapng, section 4.2)."""
    at = 16
    while at + 4 <= len(block) - 4:
        code, length = struct.unpack_from("<HH", block, at)
        if code == _IF_NAME:
            return block[at + 4 : at + 4 + length].decode()
        at += 4 + length + -length % 4
    return ""


def _packet(block: bytes, names: list[str]) -> RawPacket:
    number, high, low, captured, length = struct.unpack_from("<IIIII", block, 8)
    return RawPacket(names[number], high << 32 | low, length, block[28 : 28 + captured])


def _block(packet: RawPacket, names: list[str]) -> bytes:
    number, padding = names.index(packet.interface), -len(packet.data) % 4
    size = struct.pack("<I", 32 + len(packet.data) + padding)
    head = struct.pack(
        "<IIIII", number, packet.ticks >> 32, packet.ticks & 0xFFFF_FFFF, len(packet.data), packet.length
    )
    return b"".join((struct.pack("<I", _ENHANCED_PACKET), size, head, packet.data, bytes(padding), size))
