"""The filter is run by a small interpreter of classic BPF, on packets that begin at the IP header."""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from tapper_wire import ACK, ipv4, ipv6, tcp

from tapper.capture import bpf
from tapper.capture.bpf import Instruction, pack, program
from tapper.streams.encapsulation import ETH_P_IP, ETH_P_IPV6

ETHERNET = 1
HOST, OUTGOING = 0, bpf.PACKET_OUTGOING


def run(
    code: tuple[Instruction, ...], packet: bytes, *, hatype: int = ETHERNET, pkttype: int = HOST, proto: int
) -> int:
    """What the kernel would keep of the packet. A load beyond the packet rejects it, as in the kernel."""
    ancillary = {bpf.SKF_AD_PROTOCOL: proto, bpf.SKF_AD_PKTTYPE: pkttype, bpf.SKF_AD_HATYPE: hatype}
    widths = {bpf.LD_W_ABS: 4, bpf.LD_H_ABS: 2, bpf.LD_B_ABS: 1, bpf.LD_W_IND: 4, bpf.LD_H_IND: 2, bpf.LD_B_IND: 1}
    accumulator = counter = index = 0
    memory = [0] * 16
    while True:
        op = code[counter]
        assert 0 <= op.jt <= 255
        assert 0 <= op.jf <= 255
        counter += 1
        if op.code == bpf.RET_K:
            return op.k
        if op.code == bpf.JMP_JA:
            counter += op.k
        elif op.code == bpf.JMP_JEQ_K:
            counter += op.jt if accumulator == op.k else op.jf
        elif op.code == bpf.JMP_JSET_K:
            counter += op.jt if accumulator & op.k else op.jf
        elif op.code == bpf.LDX_HEADER:
            index = (packet[op.k] & 15) * 4
        elif op.code in (bpf.LDX_IMM, bpf.LDX_MEM, bpf.TAX):
            index = {bpf.LDX_IMM: op.k, bpf.LDX_MEM: memory[op.k % 16], bpf.TAX: accumulator}[op.code]
        elif op.code in (bpf.ST, bpf.STX):
            memory[op.k] = accumulator if op.code == bpf.ST else index
        elif op.code in (bpf.LD_MEM, bpf.TXA):
            accumulator = memory[op.k] if op.code == bpf.LD_MEM else index
        elif op.code in ARITHMETIC:
            accumulator = ARITHMETIC[op.code](accumulator, index if op.code == bpf.ADD_X else op.k) & 0xFFFF_FFFF
        elif op.code == bpf.LD_W_ABS and op.k >= bpf.SKF_AD_OFF:
            accumulator = ancillary[op.k - bpf.SKF_AD_OFF]
        else:
            width = widths[op.code]
            at = op.k + (index if op.code in (bpf.LD_W_IND, bpf.LD_H_IND, bpf.LD_B_IND) else 0)
            if at + width > len(packet):
                return 0
            accumulator = int.from_bytes(packet[at : at + width], "big")


ARITHMETIC = {
    bpf.ADD_K: operator.add,
    bpf.ADD_X: operator.add,
    bpf.AND_K: operator.and_,
    bpf.LSH_K: operator.lshift,
    bpf.RSH_K: operator.rshift,
}


def accepts(
    packet: bytes,
    addresses: list[str] | None = None,
    *,
    hatype: int = ETHERNET,
    pkttype: int = HOST,
    proto: int | None = None,
    tunnels: bool = False,
) -> bool:
    wanted = None if addresses is None else [ip_address(address).packed for address in addresses]
    code = program(wanted, tunnels=tunnels)
    proto = proto if proto is not None else ETH_P_IP if packet[0] >> 4 == 4 else ETH_P_IPV6
    kept = run(code, packet, hatype=hatype, pkttype=pkttype, proto=proto)
    assert kept in {0, 0xFFFFFFFF}
    return kept > 0


SEGMENT = tcp(1, 2, 3, 4, ACK)
V4 = ipv4("10.0.0.1", "10.0.0.2", SEGMENT)
V6 = ipv6("fd00::1", "fd00::2", SEGMENT)


def ether_type(inside: bytes) -> bytes:
    return b"\x08\x00" if inside[0] >> 4 == 4 else b"\x86\xdd"


def udp(port: int) -> bytes:
    return struct.pack("!HHHH", 9, port, 0, 0)


VXLAN = b"\x08\0\0\0\0\0\x07\0"
ONE_DEEP: dict[str, Callable[[bytes], tuple[int, bytes]]] = {
    "vxlan": lambda inside: (17, udp(4789) + VXLAN + bytes(12) + ether_type(inside)),
    "vxlan of older Linux": lambda inside: (17, udp(8472) + VXLAN + bytes(12) + ether_type(inside)),
    "vxlan with a tag": lambda inside: (17, udp(4789) + VXLAN + bytes(12) + b"\x81\0\0\5" + ether_type(inside)),
    "vxlan-gpe": lambda _: (17, udp(4790) + b"\x0c\0\0\x01\0\0\x07\0"),
    "geneve": lambda inside: (17, udp(6081) + b"\0\0\x65\x58\0\0\x07\0" + bytes(12) + ether_type(inside)),
    "geneve with options": lambda inside: (17, udp(6081) + b"\x02\0" + ether_type(inside) + b"\0\0\x07\0" + bytes(8)),
    "gre": lambda inside: (47, b"\0\0" + ether_type(inside)),
    "gre with a key": lambda inside: (47, b"\x20\0" + ether_type(inside) + bytes(4)),
    "gre with everything": lambda inside: (47, b"\xb0\0\x65\x58" + bytes(24) + ether_type(inside)),
    "ip in ip": lambda inside: (4 if inside[0] >> 4 == 4 else 41, b""),
}


@pytest.mark.parametrize(
    ("packet", "accepted"),
    [
        (V4, True),
        (V6, True),
        (ipv4("10.0.0.1", "10.0.0.2", SEGMENT, protocol=17), False),
        (ipv6("fd00::1", "fd00::2", SEGMENT, protocol=17), False),
        (ipv4("10.0.0.1", "10.0.0.2", SEGMENT, fragment=0x2000), True),
        (ipv4("10.0.0.1", "10.0.0.2", SEGMENT, fragment=0x2001), True),
        (ipv4("10.0.0.1", "10.0.0.2", SEGMENT, fragment=0x4000), True),
        (ipv6("fd00::1", "fd00::2", bytes(8) + SEGMENT, protocol=0), True),
        (ipv6("fd00::1", "fd00::2", bytes(8) + SEGMENT, protocol=43), True),
        (ipv6("fd00::1", "fd00::2", bytes(8) + SEGMENT, protocol=60), True),
        (ipv6("fd00::1", "fd00::2", bytes(8) + SEGMENT, protocol=44), True),
        (ipv6("fd00::1", "fd00::2", bytes(8) + SEGMENT, protocol=50), False),
    ],
)
def test_tcp_and_nothing_else(packet: bytes, accepted: bool) -> None:
    assert accepts(packet) is accepted
    assert accepts(packet, ["10.0.0.1", "fd00::1"]) is accepted
    assert accepts(packet, ["10.0.0.1", "fd00::1"], tunnels=True) is accepted


@pytest.mark.parametrize("outer", ["192.0.2.1", "2001:db8::1"])
@pytest.mark.parametrize("tunnel", sorted(ONE_DEEP))
@pytest.mark.parametrize("inside", [V4, V6], ids=["IPv4", "IPv6"])
def test_tunnels_pass_by_the_addresses_inside(tunnel: str, inside: bytes, outer: str) -> None:
    protocol, header = ONE_DEEP[tunnel](inside)
    packet = (ipv6 if ":" in outer else ipv4)(outer, outer, header + inside, protocol=protocol)
    assert accepts(packet, tunnels=True)
    assert not accepts(packet), "on a pod's lo there are no tunnels"
    assert accepts(packet, ["10.0.0.2", "fd00::2"], tunnels=True)
    assert accepts(packet, ["10.0.0.1", "fd00::1"], tunnels=True)
    assert not accepts(packet, ["10.0.0.3", "fd00::3"], tunnels=True)
    assert not accepts(packet, [outer], tunnels=True), "the ends of the tunnel are nodes"


@pytest.mark.parametrize("tunnel", sorted(ONE_DEEP))
def test_tunnels_of_other_protocols_do_not_pass(tunnel: str) -> None:
    for inside in (ipv4("10.0.0.1", "10.0.0.2", SEGMENT, protocol=17), ipv6("::1", "::2", SEGMENT, protocol=58)):
        protocol, header = ONE_DEEP[tunnel](inside)
        assert not accepts(ipv4("192.0.2.1", "192.0.2.2", header + inside, protocol=protocol), tunnels=True)


def test_other_packets_of_udp_and_gre_do_not_pass() -> None:
    for protocol, payload in (
        (17, struct.pack("!HHHH", 4789, 53, 0, 0) + V4),
        (47, b"\0\0\x08\x06" + bytes(28)),
        (17, struct.pack("!HHHHBxxxI", 9, 4789, 0, 0, 8, 7) + bytes(12) + b"\x08\x06" + V4),
    ):
        assert not accepts(ipv4("192.0.2.1", "192.0.2.2", payload, protocol=protocol), tunnels=True)


def test_other_protocols_are_told_by_the_link_not_by_the_first_byte() -> None:
    assert not accepts(V4, proto=0x0806)
    assert not accepts(V6, proto=0x8847)


@pytest.mark.parametrize("packet", [V4, V6])
@pytest.mark.parametrize(
    ("hatype", "pkttype", "accepted"),
    [
        (bpf.ARPHRD_LOOPBACK, OUTGOING, False),
        (bpf.ARPHRD_LOOPBACK, HOST, True),
        (ETHERNET, OUTGOING, True),
        (ETHERNET, HOST, True),
    ],
)
def test_only_the_outgoing_copy_on_loopback_is_dropped(
    packet: bytes, hatype: int, pkttype: int, accepted: bool
) -> None:
    assert accepts(packet, hatype=hatype, pkttype=pkttype) is accepted
    assert accepts(packet, ["10.0.0.2", "fd00::2"], hatype=hatype, pkttype=pkttype) is accepted


@pytest.mark.parametrize(
    ("addresses", "accepted"),
    [
        (["10.0.0.1"], True),
        (["10.0.0.2"], True),
        (["10.0.0.3"], False),
        (["10.0.0.10", "10.0.0.100", "1.0.0.10"], False),
        (["10.0.0.3", "10.0.0.4", "10.0.0.2"], True),
        (["fd00::1"], False),
        ([], False),
    ],
)
def test_ipv4_addresses(addresses: list[str], accepted: bool) -> None:
    assert accepts(V4, addresses) is accepted


@pytest.mark.parametrize(
    ("addresses", "accepted"),
    [
        (["fd00::1"], True),
        (["fd00::2"], True),
        (["fd00::3", "fd00::2:2", "fd01::2", "fd00:0:1::2"], False),
        (["fd00::3", "fd00::2:2", "fd01::2", "fd00:0:1::2", "fd00::2"], True),
        (["10.0.0.1", "10.0.0.2"], False),
        ([], False),
    ],
)
def test_ipv6_addresses(addresses: list[str], accepted: bool) -> None:
    assert accepts(V6, addresses) is accepted


def many(count: int, version: int) -> list[str]:
    base = int(ip_address("10.1.0.0" if version == 4 else "fd01::"))
    return [str(ip_address(base + index)) for index in range(count)]


@pytest.mark.parametrize("tunnels", [False, True])
@pytest.mark.parametrize(("count", "version"), [(200, 4), (251, 4), (1900, 4), (200, 6)])
def test_long_lists_are_still_exact(count: int, version: int, tunnels: bool) -> None:
    addresses = many(count, version)
    code = program([ip_address(address).packed for address in addresses], tunnels=tunnels)
    assert len(code) <= bpf.MAX_INSTRUCTIONS
    for address in (addresses[0], addresses[count // 2], addresses[-1]):
        inside = ipv4(address, "1.2.3.4", SEGMENT) if version == 4 else ipv6("fe80::1", address, SEGMENT)
        assert accepts(inside, addresses)
    assert not accepts(V4, addresses)
    assert not accepts(V6, addresses)


def test_a_list_over_the_limit_lets_all_of_tcp_pass() -> None:
    addresses = many(5000, 4)
    assert len(program([ip_address(address).packed for address in addresses])) <= bpf.MAX_INSTRUCTIONS
    assert accepts(V4, addresses)
    assert not accepts(ipv4("10.0.0.1", "10.0.0.2", SEGMENT, protocol=17), addresses)
    assert not accepts(V4, addresses, hatype=bpf.ARPHRD_LOOPBACK, pkttype=OUTGOING)


class Unsorted(bytes):
    """An address that must not be compared, which is where assembling a program begins."""

    def __lt__(self, _: object) -> bool:
        raise AssertionError("a program of its own is assembled")


def test_a_list_far_over_the_limit_costs_no_program_of_its_own() -> None:
    """Two hundred thousand targets took seconds, in which the loop read nothing."""
    assert program(Unsorted(number.to_bytes(4, "big")) for number in range(200_000)) == program(None)
    with pytest.raises(AssertionError, match="assembled"):
        program([Unsorted(b"aaaa"), Unsorted(b"bbbb")])


def test_short_packets_are_rejected() -> None:
    assert not any(accepts(V4[:length], ["10.0.0.1", "10.0.0.2"]) for length in range(1, 12))


def test_reject_all() -> None:
    assert run(bpf.REJECT_ALL, V4, proto=ETH_P_IP) == 0


def test_packing_is_struct_sock_filter() -> None:
    assert pack([Instruction(0x15, 1, 2, 0xDEADBEEF), Instruction(6, 0, 0, 1)]) == struct.pack(
        "=HBBIHBBI", 0x15, 1, 2, 0xDEADBEEF, 6, 0, 0, 1
    )
