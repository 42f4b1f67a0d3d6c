from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapper.protocols.detect import ENOUGH, Kind, is_too_short, recognise

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, stream: int, payload: bytes, flags: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


@pytest.mark.parametrize("record", [0x14, 0x15, 0x16, 0x17])
@pytest.mark.parametrize("minor", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("beginning", [True, False])
def test_tls_records(record: int, minor: int, beginning: bool) -> None:
    assert recognise(bytes([record, 3, minor, 0, 50]) + bytes(50), beginning=beginning) is Kind.TLS


@pytest.mark.parametrize(
    "data", [b"\x16", b"\x16\x03", b"\x16\x02\x01", b"\x16\x03\x05\0\0", b"\x13\x03\x01\0\0", b"GET /"]
)
def test_not_tls(data: bytes) -> None:
    assert recognise(data, beginning=True) is None


@pytest.mark.parametrize(
    ("data", "beginning", "expected"),
    [
        (PREFACE, True, Kind.HTTP2),
        (PREFACE + frame(4, 0, bytes(6)), True, Kind.HTTP2),
        (frame(4, 0, bytes(6)), True, Kind.HTTP2),
        (frame(4, 0, b""), True, Kind.HTTP2),
        (frame(4, 0, bytes(600))[:20], True, Kind.HTTP2),
        (frame(4, 0, bytes(600))[:20], False, None),
        (frame(4, 1, bytes(6)), True, None),
        (frame(4, 0, bytes(7))[:12], True, None),
        (frame(1, 1, b"hpack", 4) + frame(0, 1, b"data", 1), False, Kind.HTTP2),
        (frame(8, 0, bytes(4)) + frame(6, 0, bytes(8)), False, Kind.HTTP2),
        (frame(8, 0, bytes(5)), False, None),
        (frame(0, 0, b"data on stream 0"), False, None),
        (frame(6, 1, bytes(8)), False, None),
        (frame(10, 1, b"unknown type"), False, None),
        (frame(1, 1, b"hpack") + b"more", False, None),
        (b"GET / HTTP/1.1\r\n\r\n", True, None),
        (b"", True, None),
    ],
)
def test_http2(data: bytes, beginning: bool, expected: Kind | None) -> None:
    assert recognise(data, beginning=beginning) is expected


@pytest.mark.parametrize("whole", [PREFACE, b"\x16\x03\x01\x02", frame(4, 0, bytes(6))])
def test_beginnings_are_too_short_until_they_are_recognised(whole: bytes) -> None:
    for length in range(1, len(whole) + 1):
        part = whole[:length]
        assert is_too_short(part) != (recognise(part, beginning=True) is not None)


@pytest.mark.parametrize("data", [b"G", b"PO", b"PRI /", b"\x16\x02", b"HTTP/1.1"])
def test_most_beginnings_are_decided_at_once(data: bytes) -> None:
    assert not is_too_short(data)


@given(st.binary(min_size=ENOUGH, max_size=100))
def test_enough_bytes_always_decide(data: bytes) -> None:
    assert not is_too_short(data)


@pytest.mark.parametrize("stream", [1, (1 << 24) + 1, (1 << 31) - 1])
@pytest.mark.parametrize("kind", [1, 8])
def test_frames_of_any_stream(stream: int, kind: int) -> None:
    assert recognise(frame(kind, stream, b"\x82\x86\x84\x87", 4 * (kind == 1)), beginning=False) is Kind.HTTP2


@pytest.mark.parametrize(
    "data",
    [
        bytes.fromhex("000000000006010000000000"),  # Modbus: transaction, protocol, length, unit, function
        bytes.fromhex("000000000003018001"),
        bytes.fromhex("00000000000601050000ff00"),
        bytes.fromhex("00010000000601030000000a"),
        bytes.fromhex("00000068fe534d4240000100") + bytes(96),  # SMB 2 behind a NetBIOS session header
        bytes.fromhex("00000009fe534d424000010000"),
        bytes.fromhex("00000000000000000000"),
        bytes(9),
        bytes(18),
        bytes.fromhex("000000000100000001"),  # one empty DATA frame
        bytes.fromhex("00000900000000000961626364656667680a"),  # a number that could be the length of one DATA frame
    ],
)
@pytest.mark.parametrize("beginning", [True, False])
def test_other_protocols_that_begin_with_numbers(data: bytes, beginning: bool) -> None:
    assert recognise(data, beginning=beginning) is None
