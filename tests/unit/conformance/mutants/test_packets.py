"""Filters over the packets of a pcapng stream, held against the tapper's own writer of such."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from tapper_wire import packet

from harness.conformance.mutants.packets import (
    RawPacket,
    TcpFields,
    over_packets,
    refusing,
    tcp,
    with_numbers,
    with_payload,
)
from tapper.output import pcapng

CLIENT, SERVER = ("10.244.0.2", 40001), ("10.96.0.10", 443)
SYN = 2
FIRST = packet(CLIENT, SERVER, 7, 9, SYN, b"GET / HTTP/1.1\r\n\r\n")
SECOND = packet(("fd00::2", 40002), ("fd00::3", 80), 1 << 31, 0, 16, b"odd")
ARP = b"\x00\x01\x08\x00"
WHOLE = b"".join(
    (
        pcapng.section_header("a test"),
        pcapng.interface("10.244.0.2 lo", "one"),
        pcapng.packet(0, 1_700_000_000_123_456_789, FIRST),
        pcapng.interface("10.244.0.3 lo", "another"),
        pcapng.packet(1, 5, SECOND),
        pcapng.packet(0, 6, ARP),
    )
)


def _same(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
    yield from packets


def _kept(whole: bytes) -> list[RawPacket]:
    kept: list[RawPacket] = []

    def keep(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
        for each in packets:
            kept.append(each)
            yield each

    assert b"".join(over_packets(keep)([whole])) == whole
    return kept


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_what_is_not_changed_is_the_same_byte_for_byte(size: int) -> None:
    pieces = [WHOLE[at : at + size] for at in range(0, len(WHOLE), size)]
    assert b"".join(over_packets(_same)(pieces)) == WHOLE


def test_a_packet_has_the_name_of_its_interface() -> None:
    first, second, third = _kept(WHOLE)
    assert (first.interface, first.ticks, first.data) == ("10.244.0.2 lo", 1_700_000_000_123_456_789, FIRST)
    assert (second.interface, second.data) == ("10.244.0.3 lo", SECOND)
    assert tcp(third) is None


def test_a_packet_can_move_to_another_interface() -> None:
    def moved(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
        for each in packets:
            yield replace(each, interface="10.244.0.2 lo")

    changed = b"".join(over_packets(moved)([WHOLE]))
    assert {each.interface for each in _kept(changed)} == {"10.244.0.2 lo"}


def test_packets_of_a_kind_are_left_out() -> None:
    changed = b"".join(
        over_packets(refusing(lambda segment: 443 in (segment.source[1], segment.destination[1])))([WHOLE])
    )
    assert [each.data for each in _kept(changed)] == [SECOND, ARP]


def test_fields_of_tcp() -> None:
    first, second, _ = _kept(WHOLE)
    segment, other = tcp(first), tcp(second)
    assert isinstance(segment, TcpFields)
    assert isinstance(other, TcpFields)
    assert segment.source == (bytes((10, 244, 0, 2)), 40001)
    assert (segment.seq, segment.flags, segment.payload) == (7, SYN, b"GET / HTTP/1.1\r\n\r\n")
    assert (len(other.source[0]), other.destination[1], other.payload) == (16, 80, b"odd")


def test_numbers_and_payloads_are_replaced() -> None:
    _, second, _ = _kept(WHOLE)
    segment = tcp(second)
    assert segment is not None
    changed = tcp(with_numbers(second, segment, (1 << 32) + 3, segment.ack))
    assert changed is not None
    assert (changed.seq, changed.payload) == (3, b"odd")
    spoilt = with_payload(second, segment, b"ODD")
    assert spoilt.data == SECOND[:-3] + b"ODD"
