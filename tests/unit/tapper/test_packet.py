from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tapper_wire import ACK, SYN, ipv4, ipv6, tcp

from tapper.streams.packet import NO_SEGMENT, TcpHeader, mirror, parse, window_scale

KEY4 = bytes([10, 0, 0, 1, 10, 0, 0, 2]) + struct.pack("!HH", 40000, 80)
V6 = ("fd00::1", "fd00::2")


def read(raw: bytes) -> tuple[TcpHeader, bytes]:
    found = parse(raw, 0, len(raw))
    assert found[0]
    return found, raw[found[5] : found[6]]


def segment(payload: bytes = b"hello", options: bytes = b"") -> bytes:
    return tcp(40000, 80, 0xFFFFFFF0, 7, ACK | SYN, payload, options)


@pytest.mark.parametrize("options", [b"", b"\x01" * 12, b"\x01" * 40])
def test_ipv4(options: bytes) -> None:
    (key, seq, ack, flags, window, _, _), payload = read(ipv4("10.0.0.1", "10.0.0.2", segment(options=options)))
    assert (key, seq, ack, flags, window, payload) == (KEY4, 0xFFFFFFF0, 7, ACK | SYN, 65535, b"hello")


def test_ipv4_options() -> None:
    (key, seq, *_), payload = read(ipv4("10.0.0.1", "10.0.0.2", segment(), options=b"\x01" * 8))
    assert (key, seq, payload) == (KEY4, 0xFFFFFFF0, b"hello")


def test_ipv6() -> None:
    (key, seq, ack, flags, window, _, _), payload = read(ipv6(*V6, segment()))
    assert (len(key), seq, ack, flags, window, payload) == (36, 0xFFFFFFF0, 7, ACK | SYN, 65535, b"hello")


@pytest.mark.parametrize("headers", [(0,), (0, 60), (43, 60, 60)])
def test_ipv6_extension_headers(headers: tuple[int, ...]) -> None:
    plain, _ = read(ipv6(*V6, segment()))
    following = [*headers[1:], 6]
    extensions = b"".join(struct.pack("!BB6x", after, 0) for after in following)
    found, payload = read(ipv6(*V6, extensions + segment(), protocol=headers[0]))
    assert found[:5] == plain[:5]
    assert payload == b"hello"


def test_an_extension_header_longer_than_eight_bytes() -> None:
    extension = struct.pack("!BB14x", 6, 1)
    assert read(ipv6(*V6, extension + segment(), protocol=60))[1] == b"hello"


def test_trailing_padding_is_cut_by_the_ip_length() -> None:
    assert read(ipv4("10.0.0.1", "10.0.0.2", segment(b"x")) + bytes(20))[1] == b"x"
    assert read(ipv6(*V6, segment(b"x")) + bytes(20))[1] == b"x"


def test_a_length_of_zero_means_to_the_end() -> None:
    raw = bytearray(ipv4("10.0.0.1", "10.0.0.2", segment(b"y" * 70)))
    raw[2:4] = b"\0\0"
    assert read(bytes(raw))[1] == b"y" * 70
    raw = bytearray(ipv6(*V6, segment(b"y" * 70)))
    raw[4:6] = b"\0\0"
    assert read(bytes(raw))[1] == b"y" * 70


def test_a_packet_cut_by_the_capture_yields_what_there_is() -> None:
    assert read(ipv4("10.0.0.1", "10.0.0.2", segment(b"0123456789"))[:-4])[1] == b"012345"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x45" * 39,
        ipv4("10.0.0.1", "10.0.0.2", segment())[:39],
        ipv4("10.0.0.1", "10.0.0.2", segment(), protocol=17),
        ipv4("10.0.0.1", "10.0.0.2", segment(), fragment=1),
        ipv4("10.0.0.1", "10.0.0.2", segment(), fragment=0x2000),  # the first fragment
        ipv4("10.0.0.1", "10.0.0.2", tcp(1, 2, 3, 4, ACK, options=b"\x01" * 40)[:20]),  # says 60, has 20
        ipv4("10.0.0.1", "10.0.0.2", bytes(12) + b"\x10" + bytes(27)),  # a TCP header of 4 bytes
        ipv6(*V6, segment(), protocol=44),  # a fragment
        ipv6(*V6, segment(), protocol=17),
        ipv6(*V6, b"\x3c\xff" + bytes(40), protocol=60),  # an extension that leads out of the packet
        b"\x30" + bytes(80),
    ],
    ids=str,
)
def test_what_is_not_tcp_or_contradicts_itself_is_none(raw: bytes) -> None:
    assert parse(raw, 0, len(raw)) == NO_SEGMENT


@pytest.mark.parametrize(
    ("options", "scale"),
    [
        (b"", None),
        (bytes([3, 3, 7, 0]), 7),
        (bytes([2, 4, 5, 180, 1, 3, 3, 10]), 10),
        (bytes([3, 3, 200, 1]), 14),  # RFC 7323 section 2.3: the most there is
        (bytes([0, 3, 3, 7]), None),  # behind the end of the options
        (bytes([2, 0, 3, 7]), None),  # an option without a length
        (bytes([1, 1, 3, 3]), None),  # cut off
        (bytes([8, 200, 3, 3]), None),  # longer than the header
    ],
)
def test_the_window_scale_of_a_syn(options: bytes, scale: int | None) -> None:
    syn = segment(options=options)
    extension = struct.pack("!BB6x", 6, 0)
    for raw in (
        ipv4("10.0.0.1", "10.0.0.2", syn),
        ipv4("10.0.0.1", "10.0.0.2", syn, options=b"\x01" * 4),
        ipv6(*V6, syn),
        ipv6(*V6, extension + syn, protocol=60),
    ):
        memory = b"before" + raw + b"behind"
        found = parse(memory, 6, 6 + len(raw))
        assert window_scale(memory, 6, found[5]) == scale


def test_mirror() -> None:
    assert mirror(KEY4) == bytes([10, 0, 0, 2, 10, 0, 0, 1]) + struct.pack("!HH", 80, 40000)
    there, back = ipv6(*V6, segment()), ipv6(V6[1], V6[0], tcp(80, 40000, 0, 0, ACK))
    key6, back6 = parse(there, 0, len(there)), parse(back, 0, len(back))
    assert key6[0]
    assert mirror(key6[0]) == back6[0]


@given(st.binary(max_size=120))
def test_any_bytes_are_parsed_or_refused_and_the_payload_lies_within(raw: bytes) -> None:
    for candidate in (raw, b"\x45" + raw, b"\x46" + raw, b"\x60" + raw):
        found = parse(candidate, 0, len(candidate))
        if found != NO_SEGMENT:
            assert 40 <= found[5] <= found[6] <= len(candidate)
            assert len(found[0]) in {12, 36}


@given(st.binary(max_size=120), st.binary(max_size=120), st.binary(max_size=60))
def test_a_packet_is_the_same_wherever_it_lies_in_memory(before: bytes, raw: bytes, behind: bytes) -> None:
    for candidate in (b"\x45" + raw, b"\x46" + raw, b"\x60" + raw):
        at, memory = len(before), before + candidate + behind
        there = parse(memory, at, at + len(candidate))
        here = parse(candidate, 0, len(candidate))
        assert there == (here if here == NO_SEGMENT else (*here[:5], here[5] + at, here[6] + at))
