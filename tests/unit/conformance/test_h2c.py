"""The kit's own HTTP/2 bytes, read back by another decoder than the tapper's."""

from __future__ import annotations

import pytest
from hpack import Decoder

from harness.conformance import h2c


def frames(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """(type, flags, stream, payload) of each frame (RFC 9113, section 4.1)."""
    found = []
    while data:
        length = int.from_bytes(data[:3], "big")
        found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + length]))
        data = data[9 + length :]
    return found


def decoded(decoder: Decoder, block: bytes) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in decoder.decode(block)]


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_a_block_in_pieces_is_one_block_that_ends_once(pieces: int) -> None:
    fields = h2c.request_fields("POST", "/orders/1", [("x-one", "1"), ("x-two", "2")])
    found = frames(h2c.Http2Sender().headers(3, fields, end=True, pieces=pieces))
    assert len(found) == pieces
    assert [kind for kind, *_ in found] == [1] + [9] * (pieces - 1)
    assert [bool(flags & 4) for _, flags, *_ in found] == [False] * (pieces - 1) + [True]
    assert [bool(flags & 1) for _, flags, *_ in found] == [True] + [False] * (pieces - 1)
    assert {stream for _, _, stream, _ in found} == {3}
    assert decoded(Decoder(), b"".join(payload for *_, payload in found)) == fields


def test_the_second_block_uses_the_table_of_the_first() -> None:
    side, decoder = h2c.Http2Sender(), Decoder()
    first, second = side.headers(1, [("x-common", "as before")]), side.headers(3, [("x-common", "as before")])
    assert len(second) < len(first)
    assert decoded(decoder, first[9:]) == decoded(decoder, second[9:]) == [("x-common", "as before")]


def test_data_is_padded_as_asked() -> None:
    assert frames(h2c.Http2Sender.data(5, b"body", end=True)) == [(0, 1, 5, b"body")]
    assert frames(h2c.Http2Sender.data(5, b"body", padding=3)) == [(0, 8, 5, b"\x03body\0\0\0")]
