"""What a receiver refuses, against packets that scapy has made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from harness.sandbox.checksums import receiver_refuses, with_checksums

HEADS = {4: lambda: IP(src="10.0.0.1", dst="10.0.0.2"), 6: lambda: IPv6(src="fd00::1", dst="fd00::2")}


@given(st.sampled_from(sorted(HEADS)), st.binary(max_size=100), st.data())
def test_one_wrong_bit_is_refused(version: int, payload: bytes, data: st.DataObject) -> None:
    ip = bytes(HEADS[version]() / TCP(sport=1, dport=2, seq=3) / payload)
    assert not receiver_refuses(ip)
    at = data.draw(st.integers(min_value=20 if version == 4 else 40, max_value=len(ip) - 1))
    flipped = ip[:at] + bytes([ip[at] ^ 1 << data.draw(st.integers(0, 7))]) + ip[at + 1 :]
    assert receiver_refuses(flipped)


@pytest.mark.parametrize("version", HEADS)
def test_padding_behind_the_packet_is_none_of_it(version: int) -> None:
    assert not receiver_refuses(bytes(HEADS[version]() / TCP() / b"hello") + b"padding")


def test_what_is_no_whole_segment_is_not_judged() -> None:
    whole = bytes(IP(src="10.0.0.1", dst="10.0.0.2") / TCP(chksum=7) / b"hello")
    assert receiver_refuses(whole)
    assert not receiver_refuses(whole[:-1])
    assert not receiver_refuses(bytes(IP(flags="MF") / TCP(chksum=7) / b"hello"))
    assert not receiver_refuses(bytes(IP() / UDP(chksum=7) / b"hello"))
    assert not any(receiver_refuses(whole[:length]) for length in range(len(whole)))


@given(st.sampled_from(sorted(HEADS)), st.binary(max_size=100))
def test_checksums_are_filled_in_as_scapy_does(version: int, payload: bytes) -> None:
    right = bytes(HEADS[version]() / TCP(sport=1, dport=2, seq=3) / payload)
    at = (20 if version == 4 else 40) + 16
    wrong = right[:at] + b"\x12\x34" + right[at + 2 :]
    wrong = wrong[:10] + b"\x56\x78" + wrong[12:] if version == 4 else wrong
    assert with_checksums(wrong) == right


def test_what_is_no_whole_segment_stays_as_it_is() -> None:
    whole = bytes(IP(src="10.0.0.1", dst="10.0.0.2") / TCP(chksum=7) / b"hello")
    assert with_checksums(whole) != whole
    for ip in (*(whole[:length] for length in range(len(whole))), bytes(IP() / UDP(chksum=7) / b"hello")):
        assert with_checksums(ip) == ip
