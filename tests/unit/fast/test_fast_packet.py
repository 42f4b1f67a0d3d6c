"""The fast packet parsers give what the plain one gives, for whole packets and for damaged ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tapper_wire import ACK, SYN, ipv4, ipv6, tcp

from tapper.fast.packet import parse_bytewise, parse_unpacking
from tapper.streams.packet import NO_SEGMENT, TcpHeader, parse

FORMS = pytest.mark.parametrize("form", [parse_bytewise, parse_unpacking])
SEGMENT = tcp(40000, 80, 0xFFFFFFF0, 7, ACK | SYN, b"hello", b"\x01" * 12)
EXTENSION = b"\x06\x00" + bytes(6)
PACKETS = [
    ipv4("10.0.0.1", "10.0.0.2", SEGMENT),
    ipv4("10.0.0.1", "10.0.0.2", SEGMENT, options=b"\x01" * 8),
    ipv4("10.0.0.1", "10.0.0.2", SEGMENT, fragment=0x2000),
    ipv4("10.0.0.1", "10.0.0.2", SEGMENT, protocol=17),
    ipv6("fd00::1", "fd00::2", SEGMENT),
    ipv6("fd00::1", "fd00::2", EXTENSION + SEGMENT, protocol=60),
]

Form = Callable[[bytes, int, int], TcpHeader]


@FORMS
@pytest.mark.parametrize("raw", PACKETS)
def test_a_whole_packet_is_parsed_alike(form: Form, raw: bytes) -> None:
    for memory, begin in ((raw, 0), (b"before" + raw + b"behind", 6), (raw + bytes(20), 0)):
        for end in (begin + len(raw), begin + len(raw) - 3, len(memory)):
            assert form(memory, begin, end) == parse(memory, begin, end)


@FORMS
@given(
    st.sampled_from(PACKETS),
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 255)), max_size=5),
    st.integers(0, 110),
)
def test_a_damaged_packet_is_parsed_alike(form: Form, raw: bytes, changes: list[tuple[int, int]], size: int) -> None:
    changed = bytearray(raw)
    for at, value in changes:
        changed[at % len(changed)] = value
    memory = bytes(changed[:size])
    assert form(memory, 0, len(memory)) == parse(memory, 0, len(memory))


@FORMS
@given(st.binary(max_size=120))
def test_any_bytes_are_parsed_alike(form: Form, raw: bytes) -> None:
    for first in (b"", b"\x45", b"\x46", b"\x60"):
        assert form(first + raw, 0, len(first + raw)) == parse(first + raw, 0, len(first + raw))


def test_some_packets_are_segments() -> None:
    """Otherwise the tests above would compare nothing with nothing."""
    assert sum(parse(raw, 0, len(raw)) != NO_SEGMENT for raw in PACKETS) == 4
