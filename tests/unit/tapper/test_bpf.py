"""The filter is run by a small interpreter of classic BPF, on packets that begin at the IP header."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from tapper_wire import ACK, ipv4, ipv6, tcp

from tapper.capture import bpf
from tapper.capture.bpf import Instruction, pack, program

ETHERNET = 1
HOST, OUTGOING = 0, bpf.PACKET_OUTGOING


def run(
    code: tuple[Instruction, ...], packet: bytes, *, hatype: int = ETHERNET, pkttype: int = HOST, proto: int
) -> int:
    """What the kernel would keep of the packet. A load beyond the packet rejects it, as in the kernel."""
    ancillary = {bpf.SKF_AD_PROTOCOL: proto, bpf.SKF_AD_PKTTYPE: pkttype, bpf.SKF_AD_HATYPE: hatype}
    widths = {bpf.LD_W_ABS: 4, bpf.LD_H_ABS: 2, bpf.LD_B_ABS: 1}
    accumulator = counter = 0
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
        elif op.k >= bpf.SKF_AD_OFF:
            accumulator = ancillary[op.k - bpf.SKF_AD_OFF]
        else:
            width = widths[op.code]
            if op.k + width > len(packet):
                return 0
            accumulator = int.from_bytes(packet[op.k : op.k + width], "big")


def accepts(
    packet: bytes,
    addresses: list[str] | None = None,
    *,
    hatype: int = ETHERNET,
    pkttype: int = HOST,
    proto: int | None = None,
) -> bool:
    code = program(None if addresses is None else [ip_address(address).packed for address in addresses])
    proto = proto if proto is not None else bpf.ETH_P_IP if packet[0] >> 4 == 4 else bpf.ETH_P_IPV6
    kept = run(code, packet, hatype=hatype, pkttype=pkttype, proto=proto)
    assert kept in {0, 0xFFFFFFFF}
    return kept > 0


SEGMENT = tcp(1, 2, 3, 4, ACK)
V4 = ipv4("10.0.0.1", "10.0.0.2", SEGMENT)
V6 = ipv6("fd00::1", "fd00::2", SEGMENT)


@pytest.mark.parametrize(
    ("packet", "accepted"),
    [
        (V4, True),
        (V6, True),
        (ipv4("10.0.0.1", "10.0.0.2", SEGMENT, protocol=17), False),
        (ipv6("fd00::1", "fd00::2", SEGMENT, protocol=17), False),
        (ipv4("10.0.0.1", "10.0.0.2", SEGMENT, fragment=0x2000), True),
        (ipv4("10.0.0.1", "10.0.0.2", SEGMENT, fragment=0x2001), False),
        (ipv4("10.0.0.1", "10.0.0.2", SEGMENT, fragment=0x4000), True),
        (ipv6("fd00::1", "fd00::2", bytes(8) + SEGMENT, protocol=0), True),
        (ipv6("fd00::1", "fd00::2", bytes(8) + SEGMENT, protocol=43), True),
        (ipv6("fd00::1", "fd00::2", bytes(8) + SEGMENT, protocol=60), True),
        (ipv6("fd00::1", "fd00::2", bytes(8) + SEGMENT, protocol=44), False),
    ],
)
def test_tcp_and_nothing_else(packet: bytes, accepted: bool) -> None:
    assert accepts(packet) is accepted
    assert accepts(packet, ["10.0.0.1", "fd00::1"]) is accepted


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


@pytest.mark.parametrize(("count", "version"), [(200, 4), (1000, 4), (200, 6)])
def test_long_lists_are_still_exact(count: int, version: int) -> None:
    addresses = many(count, version)
    assert len(program([ip_address(address).packed for address in addresses])) <= bpf.MAX_INSTRUCTIONS
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


def test_a_list_far_over_the_limit_costs_no_program_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred thousand targets took seconds, in which the loop read nothing."""
    made: list[int] = []

    def counted(*fields: int) -> Instruction:
        made.append(1)
        return Instruction(*fields)

    monkeypatch.setattr(bpf, "Instruction", counted)
    assert program(number.to_bytes(4, "big") for number in range(200_000)) == program(None)
    assert len(made) < 200


def test_short_packets_are_rejected() -> None:
    assert not any(accepts(V4[:length], ["10.0.0.1", "10.0.0.2"]) for length in range(1, 12))


def test_reject_all() -> None:
    assert run(bpf.REJECT_ALL, V4, proto=bpf.ETH_P_IP) == 0


def test_packing_is_struct_sock_filter() -> None:
    assert pack([Instruction(0x15, 1, 2, 0xDEADBEEF), Instruction(6, 0, 0, 1)]) == struct.pack(
        "=HBBIHBBI", 0x15, 1, 2, 0xDEADBEEF, 6, 0, 0, 1
    )
