"""What the cases of capture compare with: bodies, pairs, ciphertext, and packets as long as they were."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from harness.adapters.observed import ReportedExchange, ReportedMessage
from harness.adapters.packets import Capture
from harness.conformance import expect, tls
from harness.conformance.truth import Sent, new_nonce, target_of
from harness.conformance.verdict import Violation

NONCE = new_nonce()
SENT = Sent(NONCE, "GET", target_of(NONCE), 201, (), response_body=b"0123456789")


def seen(body: bytes = b"0123456789", *, truncated: bool = False) -> ReportedExchange:
    return ReportedExchange(SENT.target, "GET", 201, response=ReportedMessage(body=body, truncated=truncated))


@pytest.mark.parametrize("fine", [seen(), seen(b"", truncated=True), seen(b"0123", truncated=True)])
def test_a_body_is_whole_or_said_to_be_cut(fine: ReportedExchange) -> None:
    expect.bodies([SENT], [fine])


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (seen(b"01234"), "5 bytes, and nothing said"),
        (seen(b"01x3456789"), "another one at 2"),
        (replace(seen(), response=None), "0 bytes"),
    ],
)
def test_a_body_that_is_neither_is_a_violation(wrong: ReportedExchange, what: str) -> None:
    with pytest.raises(Violation, match=what):
        expect.bodies([SENT], [wrong])


def test_a_message_that_is_not_reported_may_be_left_out_where_it_is_not_asked_for() -> None:
    unanswered = replace(seen(), response=None)
    expect.bodies([SENT], [unanswered], where_told=True)
    with pytest.raises(Violation, match="5 bytes, and nothing said"):
        expect.bodies([SENT], [seen(b"01234")], where_told=True)


def test_an_answer_is_the_request_s_own_or_absent() -> None:
    expect.paired_right([SENT], [seen(), replace(seen(), status=None)])
    with pytest.raises(Violation, match="its own answer, 201"):
        expect.paired_right([SENT], [replace(seen(), status=202)])


def test_an_exchange_of_a_strange_port_is_invented() -> None:
    expect.nothing_invented([replace(seen(), src="127.0.0.6:40000", dst="10.244.0.2:18502")], [8502])
    expect.nothing_invented([ReportedExchange(None, status=200)], [8502])
    for src, dst in (
        (None, None),
        (None, "10.244.0.2:8502"),
        ("10.244.0.2:8502", None),
        ("[fd00::1]:1", "[fd00::2]:8502"),
    ):
        with pytest.raises(Violation, match="carries none"):
            expect.nothing_invented([ReportedExchange(None, src=src, dst=dst)], [8502])


def test_hidden_bytes_are_not_to_be_presented() -> None:
    expect.not_presented([SENT], [ReportedExchange("/orders/another"), ReportedExchange(None)])
    with pytest.raises(Violation, match="another protocol"):
        expect.not_presented([SENT], [seen()])


def test_tls_flights_are_tls_and_hide_what_they_carry() -> None:
    said = tls.flights([(b"the request", b"the answer")] * 2)
    assert said[0][0][:3] == b"\x16\x03\x01"
    assert said[0][1][:2] == b"\x16\x03"
    assert len(said) == 4
    for ours, theirs in said[2:]:
        assert ours[:3] == theirs[:3] == b"\x17\x03\x03"
    everything = b"".join(ours + theirs for ours, theirs in said)
    assert b"the request" not in everything
    assert b"the answer" not in everything


def test_a_packet_is_read_as_long_as_it_was_captured() -> None:
    capture = Capture()
    length = 65_549
    capture.feed(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, 1))
    capture.feed(struct.pack("<IIII", 1, 2, length, length) + bytes(length))
    assert [(len(packet.data), packet.length) for packet in capture.packets()] == [(length, length)]
    assert not capture.problems
