"""Recorded frames, and the TCP streams in them. Pure functions.

This is ground truth, so it is deliberately not the tapper's decoder, and as plain as its use allows: a recording begins
before its connections and has lost nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

ETHERNET_HEADER = 14
ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD
_TCP = 6
_SYN = 0x02

TLS_CONTENT_TYPES = range(20, 24)  # RFC 8446, section 5.1
_TLS_RECORD_HEADER = 5
_TLS_LONGEST_RECORD = 2**14 + 2048  # RFC 5246, section 6.2.3; TLS 1.3 allows less


@dataclass(frozen=True, slots=True)
class Frame:
    """One Ethernet frame; `time_ns` is nanoseconds since the epoch, by the kernel."""

    time_ns: int
    data: bytes
    refused: bool = False
    """Whether the receiver drops the frame, because a checksum in it is wrong."""
    link: str = ""
    """The interface on which it was recorded, if that is known."""


def endpoint(host: str, port: int) -> str:
    """An end of a connection: `10.244.0.2:8080` or `[fd00::2]:8080`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True, order=True)
class Flow:
    """One direction of a TCP connection, as its packets are addressed."""

    src: str
    sport: int
    dst: str
    dport: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment. `seq` counts the SYN as one, as TCP does."""

    flow: Flow
    seq: int
    syn: bool
    payload: bytes


def parse_tcp(frame: bytes) -> Segment | None:
    """The TCP segment in an Ethernet frame, or None where there is none (RFC 894)."""
    (ethertype,) = struct.unpack_from("!H", frame, 12)
    return parse_ip_tcp(frame[ETHERNET_HEADER:]) if ethertype in (ETHERTYPE_IPV4, ETHERTYPE_IPV6) else None


def parse_ip_tcp(packet: bytes) -> Segment | None:
    """The TCP segment in an IP packet; None if there is none, or no whole headers (RFC 791, 8200, 9293).

    The payload is shorter than sent if the capture has cut the packet.
    """
    try:
        version = packet[0] >> 4
        if version == 4:
            total, protocol = struct.unpack_from("!2xH5xB", packet)
            end = total or len(packet)  # 0: the kernel left the length to the network card
            src, dst = (str(IPv4Address(packet[12 + i : 16 + i])) for i in (0, 4))
            at = (packet[0] & 0x0F) * 4
        elif version == 6:
            length, protocol = struct.unpack_from("!4xHB", packet)
            end = 40 + length if length else len(packet)
            src, dst = (str(IPv6Address(packet[8 + i : 24 + i])) for i in (0, 16))
            at = 40
        else:
            return None
        if protocol != _TCP:
            return None
        sport, dport, seq = struct.unpack_from("!HHI", packet, at)
        syn = bool(packet[at + 13] & _SYN)
        at += (packet[at + 12] >> 4) * 4
    except (IndexError, struct.error, ValueError):
        return None
    return Segment(Flow(src, sport, dst, dport), seq + syn & 0xFFFFFFFF, syn, packet[at:end])


def tcp_streams(frames: Iterable[Frame]) -> dict[Flow, bytes]:
    """The bytes of every direction of every connection, without retransmissions. Directions without data are left out.

    A recording may begin within a connection, with a keep-alive, whose sequence number is one too low (RFC 9293,
    section 3.8.4). So a stream begins at its first segment with a SYN or with bytes. Raises ValueError where bytes are
    missing.
    """
    segments = (parse_tcp(frame.data) for frame in frames)
    return tcp_streams_of(part for part in segments if part is not None and (part.payload or part.syn))


def tcp_streams_of(segments: Iterable[Segment], holes: bytes | None = None) -> dict[Flow, bytes]:
    """Like `tcp_streams`, of segments. Missing bytes are an error, or, with `holes`, each gap is replaced by it."""
    first: dict[Flow, int] = {}
    parts: dict[Flow, dict[int, bytes]] = {}
    for segment in segments:
        first.setdefault(segment.flow, segment.seq)
        if segment.payload:
            offset = (segment.seq - first[segment.flow]) & 0xFFFFFFFF
            known = parts.setdefault(segment.flow, {})
            if len(segment.payload) > len(known.get(offset, b"")):
                known[offset] = segment.payload
    return {flow: _join(known, holes) for flow, known in parts.items()}


def _join(parts: dict[int, bytes], holes: bytes | None) -> bytes:
    stream = bytearray()
    reached = 0
    for offset in sorted(parts):
        overlap = reached - offset
        if overlap < 0:
            if holes is None:
                raise ValueError(f"{-overlap} bytes of a stream are not in the recording")
            stream += holes
            overlap = 0
        stream += parts[offset][overlap:]
        reached = max(reached, offset + len(parts[offset]))
    return bytes(stream)


def is_tls(stream: bytes) -> bool:
    """True when a stream is TLS records from its first byte to its last (the last may be cut short)."""
    at = 0
    while at + _TLS_RECORD_HEADER <= len(stream):
        kind, major, _minor, length = struct.unpack_from("!BBBH", stream, at)
        if kind not in TLS_CONTENT_TYPES or major != 3 or length > _TLS_LONGEST_RECORD:
            return False
        at += _TLS_RECORD_HEADER + length
    return at > 0
