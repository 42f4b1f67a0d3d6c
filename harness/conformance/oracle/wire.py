"""Frames of one interface become TCP connections (RFC 9293). Pure; the whole recording is in hand.

The kit's own reading of TCP, and not the tapper's: simple, because every packet is there before the first is looked at.
What its receiver does not take is no part of a connection: a segment with a wrong checksum, numbers that are further
away than any window, a SYN within the connection that nobody answers (RFC 9293, section 3.10.7.4).
A connection is certain where its handshake was recorded, no byte is missing, and no byte was sent in two versions.
Of all others a tapper may say this or that, and the oracle asks for nothing.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import ip_address

from harness.conformance.oracle.model import Address, OneWay, TcpConnection
from harness.mesh.envoy_config import OUTBOUND_PORT
from harness.sandbox.frames import ETHERNET_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame

_TCP = 6
_FIN, _SYN, _RST, _ACK = 0x01, 0x02, 0x04, 0x10
_WRAP = 1 << 32
_HALF = 1 << 31
_FURTHEST = 64 << 20
"""A segment that is further from the others than Linux lets a window be (tcp(7), tcp_rmem) is no part of them."""

NO_HANDSHAKE = "its beginning was not seen"
MISSING_BYTES = "bytes of it were never sent"
SAME_NUMBERS = "it has the sequence numbers of an earlier one, and may be that one sent again"
TWO_VERSIONS = "the same bytes were sent in two versions"
STRAY_NUMBERS = "a packet of it has numbers outside of its window"

_Key = tuple[bytes, int, bytes, int]
"""Source address, port, destination address, port, as a packet has them."""


@dataclass(frozen=True, slots=True)
class TcpPacket:
    """One TCP segment as it crossed: `flow` is (source address, port, destination address, port), addresses packed."""

    time_ns: int
    flow: _Key
    seq: int
    ack: int
    flags: int
    payload: bytes
    refused: bool = False
    """Whether its receiver drops it, because its checksum is wrong."""


@dataclass(slots=True)
class _Way:
    """The bytes that one end has sent, while they are put in order."""

    start: int | None = None
    """The sequence number of its first byte."""
    data: bytearray = field(default_factory=bytearray)
    offsets: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    early: list[tuple[int, int, bytes]] = field(default_factory=list)
    """(offset, time, payload) of what came before bytes that precede it."""
    end: int | None = None
    ended_ns: int | None = None


@dataclass(slots=True)
class _Growing:
    """A connection while its packets are read."""

    client: _Key
    """The flow of the client's packets."""
    began_ns: int
    isn: int | None
    last_ns: int = 0
    server: _Key | None = None
    """The flow of the server's packets, once one was seen."""
    ways: tuple[_Way, _Way] = field(default_factory=lambda: (_Way(), _Way()))
    flaw: str = ""
    reset: bool = False
    reset_by: str | None = None
    disordered: bool = False

    def over(self) -> bool:
        return self.reset or all(way.ended_ns is not None for way in self.ways)


def packet_of(time_ns: int, ip: bytes) -> TcpPacket | None:
    """The TCP segment in an IP packet (RFC 791, 8200, 9293). None where there is none, or not all of its headers."""
    try:
        version = ip[0] >> 4
        if version == 4:
            total, fragment, protocol = struct.unpack_from("!2xH2xHxB", ip)
            if fragment & 0x3FFF:  # more fragments, or not the first
                return None
            end, at, source, destination = total or len(ip), (ip[0] & 0x0F) * 4, ip[12:16], ip[16:20]
        elif version == 6:
            length, protocol = struct.unpack_from("!4xHB", ip)
            end, at, source, destination = 40 + length if length else len(ip), 40, ip[8:24], ip[24:40]
        else:
            return None
        if protocol != _TCP:
            return None
        sport, dport, seq, ack, length, flags = struct.unpack_from("!HHIIBB", ip, at)
    except (IndexError, struct.error):
        return None
    payload = ip[at + (length >> 4) * 4 : end]
    return TcpPacket(time_ns, (source, sport, destination, dport), seq, ack, flags, payload)


def packets(frames: Iterable[Frame]) -> Iterable[TcpPacket]:
    """The TCP segments in Ethernet frames, in their order."""
    for frame in frames:
        data = frame.data
        if len(data) > ETHERNET_HEADER and int.from_bytes(data[12:14], "big") in (ETHERTYPE_IPV4, ETHERTYPE_IPV6):
            packet = packet_of(frame.time_ns, data[ETHERNET_HEADER:])
            if packet is not None:
                yield replace(packet, refused=True) if frame.refused else packet


def connections(frames: Iterable[Frame]) -> list[TcpConnection]:
    """All TCP connections in a recording, in the order in which they began."""
    known: list[_Growing] = []
    flows: dict[_Key, tuple[_Growing, int]] = {}
    unanswered: dict[tuple[bytes, int], list[_Growing]] = {}
    for packet in packets(frames):
        if packet.refused:
            continue
        if packet.flags & _SYN and not packet.flags & _ACK:
            _take(_opening(packet, flows, unanswered, known), 0, packet)
            continue
        at_hand = flows.get(packet.flow)
        if packet.flags & _SYN:
            at_hand = _answered(packet, flows, unanswered, known) or at_hand
        elif at_hand is not None:
            at_hand = _replaced(packet, at_hand[0], flows, unanswered, known) or at_hand
        if at_hand is None:
            at_hand = _joined(packet, flows, unanswered, known)
        _take(at_hand[0], at_hand[1], packet)
    return [_finished(each) for each in known]


def _opening(
    packet: TcpPacket,
    flows: dict[_Key, tuple[_Growing, int]],
    unanswered: dict[tuple[bytes, int], list[_Growing]],
    known: list[_Growing],
) -> _Growing:
    """The connection that a SYN opens, or opens again. Within another connection it opens none unless it is answered:
    that one's end answers it with no more than an acknowledgement (RFC 9293, section 3.10.7.4)."""
    found = _opened(packet, flows)
    if found is None:
        before = flows.get(packet.flow)
        again = before is not None and before[0].isn == packet.seq
        found = _Growing(packet.flow, packet.time_ns, packet.seq, flaw=SAME_NUMBERS if again else "")
        found.ways[0].start = packet.seq + 1 & _WRAP - 1
        unanswered.setdefault(packet.flow[:2], []).append(found)
        if before is None or before[1] != 0 or before[0].server is None or before[0].over():
            _begin(found, flows, known)
    return found


def _begin(found: _Growing, flows: dict[_Key, tuple[_Growing, int]], known: list[_Growing]) -> None:
    """From here on packets with its addresses are its own."""
    known.append(found)
    flows[found.client] = found, 0
    answers = flows.get(_mirrored(found.client))
    if answers is not None and answers[0] is not found:
        del flows[_mirrored(found.client)]  # of an earlier connection with the same two ends


def _replaced(
    packet: TcpPacket,
    at_hand: _Growing,
    flows: dict[_Key, tuple[_Growing, int]],
    unanswered: dict[tuple[bytes, int], list[_Growing]],
    known: list[_Growing],
) -> tuple[_Growing, int] | None:
    """The later connection with the same ends whose first byte this packet has, though its SYN-ACK was not seen."""
    for each in unanswered.get(packet.flow[:2], ()):
        begins = each.isn is not None and packet.seq == each.isn + 1 & _WRAP - 1
        if begins and each is not at_hand and each.client == packet.flow and _is_far(at_hand.ways[0], packet.seq):
            each.flaw = each.flaw or NO_HANDSHAKE
            _begin(each, flows, known)
            return each, 0
    return None


def _opened(packet: TcpPacket, flows: dict[_Key, tuple[_Growing, int]]) -> _Growing | None:
    """The connection that this SYN opens again: a repeated one. None where it opens a new connection."""
    found = flows.get(packet.flow)
    if found is None or found[1] != 0 or found[0].isn != packet.seq or found[0].over():
        return None
    return found[0]


def _answered(
    packet: TcpPacket,
    flows: dict[_Key, tuple[_Growing, int]],
    unanswered: dict[tuple[bytes, int], list[_Growing]],
    known: list[_Growing],
) -> tuple[_Growing, int] | None:
    """The connection that this SYN-ACK answers: the one of that client whose number it acknowledges.

    A redirected client may have sent from another port than it is answered at.
    """
    redirected = (
        each
        for (address, _), waiting in unanswered.items()
        if address == packet.flow[2]
        for each in waiting
        if each.client[3] == OUTBOUND_PORT
    )
    for each in (*unanswered.get(packet.flow[2:], ()), *redirected):
        if each.isn is not None and packet.ack == each.isn + 1 & _WRAP - 1:
            unanswered[each.client[:2]].remove(each)
            if flows.get(each.client) != (each, 0):
                _begin(each, flows, known)
            each.server = packet.flow
            each.ways[1].start = packet.seq + 1 & _WRAP - 1
            flows[packet.flow] = each, 1
            return each, 1
    return None


def _joined(
    packet: TcpPacket,
    flows: dict[_Key, tuple[_Growing, int]],
    unanswered: dict[tuple[bytes, int], list[_Growing]],
    known: list[_Growing],
) -> tuple[_Growing, int]:
    """The connection of a packet whose flow has no handshake: the mirrored one, that of its client, or a new one."""
    mirrored = flows.get(_mirrored(packet.flow))
    if mirrored is not None and mirrored[0].server is None:
        found = mirrored[0]
    else:
        waiting = unanswered.get(packet.flow[2:])
        if not waiting:
            lonely = _Growing(packet.flow, packet.time_ns, None, flaw=NO_HANDSHAKE)
            lonely.ways[0].start = packet.seq
            known.append(lonely)
            flows[packet.flow] = lonely, 0
            unanswered.setdefault(packet.flow[:2], []).append(lonely)
            return lonely, 0
        found = waiting[-1]
    if found in unanswered.get(found.client[:2], ()):
        unanswered[found.client[:2]].remove(found)
    found.server = packet.flow
    found.flaw = found.flaw or NO_HANDSHAKE
    found.ways[1].start = packet.seq
    flows[packet.flow] = found, 1
    return found, 1


def _mirrored(flow: _Key) -> _Key:
    return flow[2], flow[3], flow[0], flow[1]


def _take(connection: _Growing, side: int, packet: TcpPacket) -> None:
    """Put a packet's bytes where they belong in what its side sends."""
    way, peer, syn = connection.ways[side], connection.ways[1 - side], packet.flags & _SYN
    if way.start is None:
        connection.flaw = connection.flaw or NO_HANDSHAKE
        way.start = packet.seq + bool(syn)
    if _is_far(way, packet.seq) or (packet.flags & _ACK and _is_far(peer, packet.ack)):
        return
    reached = len(way.data)
    offset = _offset(way, packet.seq + bool(syn))
    if packet.flags & _RST:
        if offset == reached and not connection.reset:
            connection.reset, connection.reset_by = True, ("client", "server")[side]
        connection.last_ns = packet.time_ns
        return
    if packet.payload and not (len(packet.payload) == 1 and offset == reached - 1):  # a keep-alive (section 3.8.4)
        if offset == reached:
            _append(way, packet.time_ns, packet.payload)
            if way.early:
                _catch_up(connection, way)
        elif offset < reached or way.end is None or offset <= way.end:
            connection.disordered = True
            way.early.append((offset, packet.time_ns, packet.payload))
            _catch_up(connection, way)
    connection.last_ns = packet.time_ns
    if packet.flags & _FIN and way.ended_ns is None:
        way.end, way.ended_ns = offset + len(packet.payload), packet.time_ns


def _offset(way: _Way, number: int) -> int:
    """Which of a side's bytes a sequence number means, counted from 0; negative for one before the first."""
    reached = len(way.data)
    ahead = number - (way.start or 0) - reached & _WRAP - 1
    return reached + (ahead - _WRAP if ahead >= _HALF else ahead)


def _is_far(way: _Way, number: int) -> bool:
    """Whether a number is none that this side's bytes can have next, so that its peer does not take the segment."""
    return way.start is not None and abs(_offset(way, number) - len(way.data)) > _FURTHEST


def _append(way: _Way, time_ns: int, payload: bytes) -> None:
    way.offsets.append(len(way.data))
    way.times.append(time_ns)
    way.data += payload


def _catch_up(connection: _Growing, way: _Way) -> None:
    """Take what now follows; what was there already has to be the same."""
    moved = True
    while moved:
        moved, rest = False, []
        for offset, time_ns, payload in way.early:
            reached = len(way.data)
            if offset > reached:
                rest.append((offset, time_ns, payload))
                continue
            skip = max(-offset, 0)  # what lies before the first byte
            known = way.data[offset + skip : offset + len(payload)]
            if known != payload[skip : skip + len(known)] or offset < 0:
                connection.flaw = connection.flaw or TWO_VERSIONS
            if offset + len(payload) > reached:
                _append(way, time_ns, payload[reached - offset :])
            moved = moved or bool(rest)
        way.early = rest


def _finished(growing: _Growing) -> TcpConnection:
    flaw = growing.flaw
    for way in growing.ways:
        if way.early or (way.end is not None and way.end > len(way.data)):
            flaw = flaw or MISSING_BYTES
        elif way.end is not None and way.end < len(way.data):
            flaw = flaw or STRAY_NUMBERS
    source, server = _addresses(growing.client)
    replies_from, client = (server, source) if growing.server is None else _addresses(growing.server)
    ways = tuple(OneWay(bytes(way.data), tuple(way.offsets), tuple(way.times), way.ended_ns) for way in growing.ways)
    return TcpConnection(
        client,
        server,
        replies_from,
        ways[0],
        ways[1],
        growing.began_ns,
        growing.last_ns,
        flaw,
        growing.reset,
        growing.reset_by,
        growing.disordered,
        renumbered=source if source != client else None,
        beyond=tuple(piece for way in growing.ways for piece in _beyond(way)),
    )


def _beyond(way: _Way) -> list[bytes]:
    """The bytes after a hole, as pieces without a hole. Of repeated bytes the first ones count."""
    pieces: list[bytearray] = []
    end = -1
    for offset, _, payload in sorted(way.early):
        if offset > end or not pieces:
            pieces.append(bytearray(payload))
            end = offset + len(payload)
        elif offset + len(payload) > end:
            pieces[-1] += payload[end - offset :]
            end = offset + len(payload)
    return [bytes(piece) for piece in pieces]


def _addresses(flow: _Key) -> tuple[Address, Address]:
    return (text_of(flow[0]), flow[1]), (text_of(flow[2]), flow[3])


@lru_cache(maxsize=4096)
def text_of(address: bytes) -> str:
    """A packed address as text (RFC 5952 for IPv6)."""
    return str(ip_address(address))


def bytes_until(way: OneWay, time_ns: int) -> int:
    """How many bytes of a stream had crossed at a time."""
    number = bisect_right(way.times, time_ns)
    return len(way.data) if number == len(way.offsets) else way.offsets[number]
