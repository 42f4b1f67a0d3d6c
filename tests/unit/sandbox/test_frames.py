"""Reading recorded frames: pure."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP, Ether
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP
from scapy.packet import Padding

from harness.sandbox.frames import Flow, Frame, is_tls, parse_tcp, tcp_streams

FLOW = Flow("10.0.0.1", 1000, "10.0.0.2", 80)
TLS_RECORD = b"\x16\x03\x01\x00\x05hello"


def frame(seq: int, payload: bytes = b"", flags: str = "A") -> Frame:
    packet = Ether() / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=1000, dport=80, seq=seq, flags=flags) / payload
    return Frame(0, bytes(packet))


@pytest.mark.parametrize("layer", [IP(src="10.0.0.1", dst="10.0.0.2"), IPv6(src="fd00::1", dst="fd00::2")])
def test_a_segment_is_read_from_both_families(layer: IP | IPv6) -> None:
    tcp = TCP(sport=1000, dport=80, seq=7, flags="PA", options=[("NOP", None)] * 4)
    segment = parse_tcp(bytes(Ether() / layer / tcp / b"data"))
    assert segment is not None
    assert segment.flow == Flow(layer.src, 1000, layer.dst, 80)
    assert (segment.seq, segment.syn, segment.payload) == (7, False, b"data")


def test_ethernet_padding_is_not_payload() -> None:
    packet = Ether() / IP(src="10.0.0.1", dst="10.0.0.2") / TCP() / b"x" / Padding(b"\0" * 20)
    segment = parse_tcp(bytes(packet))
    assert segment is not None
    assert segment.payload == b"x"


@pytest.mark.parametrize("packet", [Ether() / ARP(), Ether() / IP() / UDP(), Ether(type=0x88CC) / (b"lldp" * 9)])
def test_other_frames_are_none(packet: Ether) -> None:
    assert parse_tcp(bytes(packet)) is None


@given(st.binary(min_size=1, max_size=400), st.randoms(use_true_random=False), st.integers(0, 2**32 - 1))
def test_a_stream_survives_reordering_repetition_and_wrap_around(data: bytes, dice: random.Random, isn: int) -> None:
    """Whatever order the segments come in after the SYN, and however often, the stream is the bytes that were sent."""
    cuts = sorted({0, len(data), *(dice.randrange(len(data) + 1) for _ in range(4))})
    pieces = [frame((isn + 1 + a) % 2**32, data[a:b]) for a, b in itertools.pairwise(cuts)]
    shuffled = pieces + dice.sample(pieces, len(pieces) // 2)
    dice.shuffle(shuffled)
    assert tcp_streams([frame(isn, flags="S"), *shuffled]) == {FLOW: data}


def test_a_hole_is_an_error_not_a_shorter_stream() -> None:
    with pytest.raises(ValueError, match="3 bytes of a stream are not in the recording"):
        tcp_streams([frame(0, flags="S"), frame(1, b"abc"), frame(7, b"xyz")])


@pytest.mark.parametrize(
    ("stream", "verdict"),
    [
        (TLS_RECORD, True),
        (TLS_RECORD * 3, True),
        (TLS_RECORD + TLS_RECORD[:7], True),
        (b"GET / HTTP/1.1\r\n\r\n", False),
        (TLS_RECORD + b"GET / HTTP/1.1\r\n\r\n", False),
        (b"\x16\x04\x01\x00\x05hello", False),
        (b"\x18\x03\x01\x00\x05hello", False),
        (b"\x16\x03\x01\xff\xff" + bytes(0xFFFF), False),
        (b"", False),
    ],
)
def test_tls_from_first_byte_to_last(stream: bytes, verdict: bool) -> None:
    assert is_tls(stream) is verdict
