"""Finds the TCP packet in a packet that is not plain TCP over IP: in tunnels, in fragments, behind rare extension
headers.

Few packets come here. `tapper.streams.packet.parse` reads plain TCP, and does not call this module.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple, TypeAlias

from tapper.streams.bounds import DAMAGED, Budget
from tapper.streams.encapsulation import NOT_IP, inside_tunnel
from tapper.streams.fragments import INCOMPLETE, OVER_BOUND, Fragment, Fragments
from tapper.streams.packet import TCP

MOST_TUNNELS: Final = 2
"""Tunnels inside each other that are looked into."""
TOO_DEEP: Final = "more than two tunnels"
CUT_FRAGMENTS: Final = "IP fragments captured in part only"

Plain: TypeAlias = tuple[bytes, int, int]
"""A TCP packet that `parse` can read: memory[start:stop], from its IP header on."""

_V4_HEADER: Final = 20
_V6_HEADER: Final = 40
_MORE_FRAGMENTS: Final = 0x2000
_OFFSET: Final = 0x1FFF
_MOST_EXTENSIONS: Final = 8
_FRAGMENT_HEADER: Final = 44
_AUTHENTICATION_HEADER: Final = 51
_SIMPLE_EXTENSIONS: Final = frozenset({0, 43, 60, 135, 139, 140})
"""IPv6 extension headers whose length is in units of eight octets, without the first eight (RFC 8200, RFC 6275, RFC
7401, RFC 5533)."""


class _IpPacket(NamedTuple):
    """What the headers of an IP packet say."""

    ends: bytes
    """Source address + destination address."""
    protocol: int
    """What the payload is."""
    payload: int
    """Where it begins."""
    stop: int
    """Where it ends, without padding."""
    whole: bool
    """Whether all of it was captured."""
    direct: bool
    """Whether `parse` finds the payload behind these headers."""
    identification: bytes
    """Empty for a packet that is no fragment."""
    offset: int
    more: bool


class Decapsulation:
    """The slow way of one source's packets. What is not looked into is counted in the budget's tally."""

    def __init__(self, budget: Budget) -> None:
        self._tally = budget.tally
        self._fragments = Fragments(budget)

    def find(self, ts: int, interface: int, memory: bytes, start: int, stop: int) -> Plain | None:
        """The TCP packet in the IP packet memory[start:stop]. None where there is none, or not yet."""
        for _ in range(MOST_TUNNELS + 1):
            # 1. The IP header, and fragments. A whole packet goes on, or one that this fragment completes.
            packet = _read(memory, start, stop)
            if packet is None:
                self._tally.pass_over(DAMAGED if stop - start < _V4_HEADER or memory[start] >> 4 in (4, 6) else NOT_IP)
                return None
            if packet.identification:
                completed = self._put_together(ts, interface, memory, start, packet)
                if completed is None:
                    return None
                memory = completed
                start, stop = 0, len(memory)
                packet = _read(memory, start, stop)
                if packet is None:
                    self._tally.pass_over(DAMAGED)
                    return None
            # 2. TCP.
            if packet.protocol == TCP:
                if packet.direct:
                    return memory, start, stop
                memory = _with_payload(memory[start : packet.payload], TCP, memory[packet.payload : packet.stop])
                return memory, 0, len(memory)
            # 3. A tunnel.
            inside = inside_tunnel(packet.protocol, memory, packet.payload, packet.stop)
            if isinstance(inside, str):
                self._tally.pass_over(inside)
                return None
            start, stop = inside, packet.stop
        self._tally.pass_over(TOO_DEEP)
        return None

    def finish(self) -> None:
        """No packet will come: count the fragments that wait for others."""
        self._fragments.give_up_all(INCOMPLETE)

    def relieve(self) -> None:
        """The source holds too much: give up the fragments that wait for others."""
        self._fragments.give_up_all(OVER_BOUND)

    def _put_together(self, ts: int, interface: int, memory: bytes, start: int, packet: _IpPacket) -> bytes | None:
        """The packet that this fragment completes. A packet that crosses several interfaces of the node has its
        fragments there several times, so each interface is apart."""
        if not packet.whole:
            self._tally.pass_over(CUT_FRAGMENTS)
            return None
        key = packet.ends + packet.identification + interface.to_bytes(8, "big")
        data = memory[packet.payload : packet.stop]
        header = memory[start : packet.payload]
        fragment = Fragment(ts, key, header, packet.protocol, packet.offset, packet.more, data)
        completed = self._fragments.add(fragment)
        if completed is None:
            return None
        first, payload = completed
        return _with_payload(first.header, first.protocol, payload)


def innermost_ends(memory: bytes, start: int, stop: int) -> bytes:
    """Source address + destination address of the TCP packet, or of the fragment of one, in the IP packet
    memory[start:stop]. Empty where there is none. Of a tunnel's fragments only the first one shows what is inside."""
    for _ in range(MOST_TUNNELS + 1):
        packet = _read(memory, start, stop)
        if packet is None:
            return b""
        if packet.protocol == TCP:
            return packet.ends
        if packet.offset:
            return b""
        inside = inside_tunnel(packet.protocol, memory, packet.payload, packet.stop)
        if isinstance(inside, str):
            return b""
        start, stop = inside, packet.stop
    return b""


def _read(memory: bytes, start: int, stop: int) -> _IpPacket | None:
    """Read the headers of the IP packet memory[start:stop]. None where they contradict themselves, or are cut."""
    if stop - start < _V4_HEADER:
        return None
    version = memory[start] >> 4
    if version == 4:
        return _read_v4(memory, start, stop)
    return _read_v6(memory, start, stop) if version == 6 else None


def _read_v4(memory: bytes, start: int, stop: int) -> _IpPacket | None:
    payload = start + (memory[start] & 15) * 4
    length = _short(memory, start + 2)
    end = start + length if length else stop  # 0: longer than the field can say
    if payload < start + _V4_HEADER or payload > stop or end < payload:
        return None
    whole, end = end <= stop, min(end, stop)
    fragment = _short(memory, start + 6)
    offset, more = (fragment & _OFFSET) * 8, bool(fragment & _MORE_FRAGMENTS)
    protocol = memory[start + 9]
    identification = b""
    if offset or more:
        identification = memory[start + 4 : start + 6] + memory[start + 9 : start + 10]
    elif protocol == _AUTHENTICATION_HEADER:
        protocol, payload = _behind_authentication(memory, payload, end)
    direct = memory[start + 9] == TCP
    ends = memory[start + 12 : start + 20]
    return _IpPacket(ends, protocol, payload, end, whole, direct, identification, offset, more)


def _read_v6(memory: bytes, start: int, stop: int) -> _IpPacket | None:
    payload = start + _V6_HEADER
    if payload > stop:
        return None
    length = _short(memory, start + 4)
    end = payload + length if length else stop
    whole, end = end <= stop, min(end, stop)
    protocol = memory[start + 6]
    identification, offset, more, direct = b"", 0, False, True
    for _ in range(_MOST_EXTENSIONS):
        if protocol in _SIMPLE_EXTENSIONS and payload + 8 <= end:
            direct = direct and protocol in (0, 43, 60)
            protocol, payload = memory[payload], payload + 8 + memory[payload + 1] * 8
        elif protocol == _AUTHENTICATION_HEADER:
            direct = False
            protocol, payload = _behind_authentication(memory, payload, end)
            if protocol == _AUTHENTICATION_HEADER:
                break
        elif protocol == _FRAGMENT_HEADER and payload + 8 <= end:
            direct = False
            fragment = _short(memory, payload + 2)
            offset, more = fragment & 0xFFF8, bool(fragment & 1)
            protocol, payload = memory[payload], payload + 8
            if offset or more:  # RFC 6946: without both it is a whole packet
                identification = memory[payload - 4 : payload]
                break
        else:
            break
    if payload > end:
        return None
    ends = memory[start + 8 : start + _V6_HEADER]
    return _IpPacket(ends, protocol, payload, end, whole, direct, identification, offset, more)


def _behind_authentication(memory: bytes, at: int, stop: int) -> tuple[int, int]:
    """Protocol and index of the payload behind an authentication header (RFC 4302), which hides nothing. The header
    itself where it is cut."""
    if at + 12 > stop:
        return _AUTHENTICATION_HEADER, at
    behind = at + 8 + memory[at + 1] * 4
    return (memory[at], behind) if behind <= stop else (_AUTHENTICATION_HEADER, at)


def _with_payload(headers: bytes, protocol: int, payload: bytes) -> bytes:
    """An IP packet with this payload directly behind its header. `headers` begins with the header. The checksum of IPv4
    is not computed."""
    if headers[0] >> 4 == 4:
        size = (headers[0] & 15) * 4
        length = size + len(payload)
        begin = headers[:2] + _LENGTH.pack(length if length <= 0xFFFF else 0) + headers[4:6] + b"\0\0"
        return begin + headers[8:9] + bytes((protocol,)) + headers[10:size] + payload
    length = len(payload) if len(payload) <= 0xFFFF else 0
    return headers[:4] + _LENGTH.pack(length) + bytes((protocol,)) + headers[7:_V6_HEADER] + payload


_LENGTH: Final = struct.Struct("!H")


def _short(memory: bytes, at: int) -> int:
    return memory[at] << 8 | memory[at + 1]
