"""TCP in tunnels and behind tags: scapy makes the packets, except those that it does not know."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.geneve import GENEVE
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import GRE, ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw
from tapper_wire import Capture, Wire

from tapper.streams.bounds import Tally
from tapper.streams.encapsulation import inside_frame
from tapper.streams.packet import parse

CALL = (("10.0.0.3", 40000), ("10.0.0.2", 8080))
SIX = (("fd00::3", 40000), ("fd00::2", 8080))
OUTER = IP(src="192.0.2.1", dst="192.0.2.2")
OUTER_6 = IPv6(src="2001:db8::1", dst="2001:db8::2")
GRE_KEYED = b"\xb0\x00\x65\x58" + bytes(12)  # checksum, key and sequence number, then a bridged frame
ERSPAN_I = b"\x00\x00\x88\xbe"
ERSPAN_II = b"\x10\x00\x88\xbe" + bytes(4) + b"\x10\x01" + bytes(6)
ERSPAN_III = b"\x10\x00\x22\xeb" + bytes(4) + b"\x20\x01" + bytes(8) + b"\x00\x01" + bytes(8)


def conversation(up: tuple[tuple[str, int], tuple[str, int]] = CALL) -> list[bytes]:
    wire = Wire(up)
    return [*wire.handshake(), *wire.exchange("/in", "body"), *wire.close()]


def ether(raw: bytes) -> Packet:
    return Ether(type=0x0800 if raw[0] >> 4 == 4 else 0x86DD) / Raw(raw)


def mpls(raw: bytes) -> bytes:
    return bytes(MPLS(label=70_000, s=0) / MPLS(label=3, s=1)) + raw


TUNNELS = {
    "vxlan": lambda raw: OUTER / UDP(dport=4789) / VXLAN(vni=7, flags=8) / ether(raw),
    "vxlan of older Linux": lambda raw: OUTER_6 / UDP(dport=8472) / VXLAN(vni=7, flags=8) / ether(raw),
    "vxlan with a group": lambda raw: OUTER / UDP(dport=4789) / VXLAN(vni=7, flags=0x88) / ether(raw),
    "vxlan-gpe": lambda raw: OUTER / UDP(dport=4790) / Raw(b"\x0c\x00\x00\x01\x00\x00\x07\x00" + raw),
    "vxlan-gpe of Ethernet": lambda raw: (
        OUTER / UDP(dport=4790) / Raw(b"\x0c\x00\x00\x03\x00\x00\x07\x00" + bytes(ether(raw)))
    ),
    "geneve": lambda raw: OUTER / UDP(dport=6081) / GENEVE(vni=7) / ether(raw),
    "geneve with options": lambda raw: (
        OUTER / UDP(dport=6081) / Raw(b"\x02\x00\x65\x58\x00\x00\x07\x00" + bytes(8) + bytes(ether(raw)))
    ),
    "geneve of IP": lambda raw: OUTER / UDP(dport=6081) / Raw(b"\x00\x00\x08\x00\x00\x00\x07\x00" + raw),
    "gre": lambda raw: OUTER / GRE(proto=0x0800) / Raw(raw),
    "gre with all fields": lambda raw: (
        IP(src="192.0.2.1", dst="192.0.2.2", proto=47) / Raw(GRE_KEYED + bytes(ether(raw)))
    ),
    "erspan I": lambda raw: IP(dst="192.0.2.2", proto=47) / Raw(ERSPAN_I + bytes(ether(raw))),
    "erspan II": lambda raw: IP(dst="192.0.2.2", proto=47) / Raw(ERSPAN_II + bytes(ether(raw))),
    "erspan III": lambda raw: IPv6(dst="2001:db8::2", nh=47) / Raw(ERSPAN_III + bytes(ether(raw))),
    "ip in ip": lambda raw: IP(dst="192.0.2.2", proto=4) / Raw(raw),
    "ip in ipv6": lambda raw: IPv6(dst="2001:db8::2", nh=4) / Raw(raw),
    "mpls in ip": lambda raw: IP(dst="192.0.2.2", proto=137) / Raw(mpls(raw)),
    "mpls in udp": lambda raw: OUTER / UDP(dport=6635) / Raw(mpls(raw)),
    "mpls in gre": lambda raw: OUTER / GRE(proto=0x8847) / Raw(mpls(raw)),
    "vlan in vxlan": lambda raw: (
        OUTER / UDP(dport=4789) / VXLAN(vni=7, flags=8) / Ether() / Dot1Q(vlan=5, type=0x0800) / Raw(raw)
    ),
    "two tunnels": lambda raw: (
        IP(dst="192.0.2.2", proto=4) / OUTER / UDP(dport=4789) / VXLAN(vni=7, flags=8) / ether(raw)
    ),
}


@pytest.mark.parametrize("tunnel", TUNNELS)
def test_an_exchange_in_a_tunnel(tunnel: str) -> None:
    capture = Capture().feed([bytes(TUNNELS[tunnel](raw)) for raw in conversation()]).finish()
    assert capture.pairs == [("/in", "body")]
    assert str(capture.seen[0].leg.src) == "10.0.0.3:40000", "the addresses are those inside"
    assert (capture.connections.tally.passed_over, capture.connections.tally.malformed) == ({}, 0)


@pytest.mark.parametrize("outer", [IP(dst="192.0.2.2", proto=41), IPv6(dst="2001:db8::2", nh=41)], ids=["4", "6"])
def test_ipv6_in_ip(outer: Packet) -> None:
    wrapped = [bytes(outer / Raw(raw)) for raw in conversation(SIX)]
    assert Capture().feed(wrapped).finish().pairs == [("/in", "body")]


def test_an_authentication_header_hides_nothing() -> None:
    header = b"\x06\x04" + bytes(22)  # TCP follows; 24 bytes
    four = [
        raw[:2] + struct.pack("!H", len(raw) + 24) + raw[4:9] + b"\x33" + raw[10:20] + header + raw[20:]
        for raw in conversation()
    ]
    six = [
        raw[:4] + struct.pack("!HB", len(raw) - 40 + 24, 51) + raw[7:40] + header + raw[40:]
        for raw in conversation(SIX)
    ]
    assert Capture().feed(four).finish().pairs == [("/in", "body")]
    assert Capture().feed(six).finish().pairs == [("/in", "body")]


@pytest.mark.parametrize(
    ("packet", "name"),
    [
        (OUTER / UDP(dport=53) / Raw(bytes(20)), "UDP"),
        (OUTER / UDP(dport=4789) / Raw(bytes(20)), "UDP"),
        (OUTER / UDP(dport=6081) / Raw(b"\xc0" + bytes(20)), "UDP"),
        (OUTER / ICMP(), "ICMP"),
        (OUTER_6 / Raw(bytes(8)), "no next header"),
        (IP(dst="192.0.2.2", proto=50) / Raw(bytes(20)), "ESP"),
        (IP(dst="192.0.2.2", proto=200) / Raw(bytes(20)), "IP protocol 200"),
        (OUTER / UDP(dport=4789) / VXLAN(flags=8) / Ether() / ARP(), "ARP"),
        (OUTER / GRE(proto=0x880B, version=1) / Raw(bytes(20)), "GRE"),
        (OUTER / GRE(proto=0x1234) / Raw(bytes(20)), "EtherType 0x1234"),
        (OUTER / UDP(dport=4789) / VXLAN(flags=8) / Raw(bytes(12) + b"\x00\x20" + bytes(32)), "IEEE 802.3 LLC"),
        (OUTER / GRE(proto=0x8847) / Raw(b"\x00\x01\x01\x40\x90" + bytes(20)), "MPLS"),
        (OUTER / GRE(proto=0x8864) / Raw(bytes(6) + b"\xc0\x21" + bytes(20)), "PPP"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_looked_into_is_counted_by_its_name(packet: Packet, name: str) -> None:
    capture = Capture().feed([bytes(packet), bytes(packet), *conversation()]).finish()
    assert capture.connections.tally.passed_over == {name: 2}
    assert capture.pairs == [("/in", "body")], "the canary"


def test_a_third_tunnel_is_not_looked_into() -> None:
    deep = [bytes(IP(proto=4) / IP(proto=4) / IP(proto=4) / Raw(raw)) for raw in conversation()]
    capture = Capture().feed(deep).finish()
    assert (capture.pairs, capture.connections.tally.passed_over) == ([], {"more than two tunnels": len(deep)})


def test_the_names_that_a_sender_can_make_are_few() -> None:
    tally = Tally()
    for number in range(1000):
        tally.pass_over(f"EtherType {number}")
    assert len(tally.passed_over) == 65
    assert (tally.passed_over["EtherType 3"], tally.passed_over["other protocols"]) == (1, 1000 - 64)


@pytest.mark.parametrize("kinds", [(0x8100,), (0x88A8, 0x8100), (0x9100, 0x9100), (0x8100, 0x88A8, 0x9100)])
def test_vlan_tags_of_any_ether_type(kinds: tuple[int, ...]) -> None:
    (raw, *_) = conversation()
    frame = bytes(12) + b"".join(struct.pack("!HH", kind, 5) for kind in kinds) + b"\x08\x00" + raw
    assert inside_frame(frame, 0, len(frame)) == 14 + 4 * len(kinds)


def test_tags_as_scapy_writes_them() -> None:
    (raw, *_) = conversation()
    for frame in (Ether() / Dot1AD(vlan=3) / Dot1Q(vlan=4) / IP(raw), Ether(type=0x8847) / Raw(mpls(raw))):
        data = bytes(frame)
        found = inside_frame(data, 0, len(data))
        assert isinstance(found, int)
        assert data[found:] == raw


def test_tags_without_end() -> None:
    assert inside_frame(bytes(12) + b"\x81\x00\x00\x05" * 50, 0, 212) == "too many tags"
    assert inside_frame(bytes(12) + b"\x88\x47" + bytes(400), 0, 414) == "damaged headers"


@pytest.mark.parametrize("tunnel", TUNNELS)
def test_wherever_a_tunnels_packet_is_cut_it_is_counted(tunnel: str) -> None:
    whole = bytes(TUNNELS[tunnel](conversation()[0]))
    tally = Capture().feed(whole[:size] for size in range(len(whole))).finish().connections.tally
    assert tally.malformed + sum(tally.passed_over.values()) == len(whole)
    assert tally.connections == 0


@given(st.sampled_from(sorted(TUNNELS)), st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=4))
def test_damaged_tunnels_raise_nothing(tunnel: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(bytes(TUNNELS[tunnel](conversation()[0])))
    for at, value in changes:
        data[at % len(data)] = value
    Capture().feed([bytes(data)]).finish()


def test_plain_tcp_does_not_come_this_way() -> None:
    assert all(parse(raw, 0, len(raw))[0] for raw in [*conversation(), *conversation(SIX)])
