"""Header blocks for the tests, also those that no encoder makes, and the `hpack` library's decoder to compare with."""

from __future__ import annotations

from collections.abc import Iterable

from hpack import Decoder
from hpack.hpack import encode_integer
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import strategies as st

from tapper.protocols.blocks import TABLE_LIMIT, DecodedBlock
from tapper.protocols.messages import HEAD_LIMIT

NEWEST = 62
"""The index of the newest entry."""
coder = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


def number(value: int, bits: int, pattern: int) -> bytes:
    encoded = encode_integer(value, bits)
    encoded[0] |= pattern
    return bytes(encoded)


def string(data: bytes, *, coded: bool) -> bytes:
    sent = coder.encode(data) if coded else data
    return number(len(sent), 7, 0x80 if coded else 0) + sent


def indexed(index: int) -> bytes:
    return number(index, 7, 0x80)


def literal(name: bytes | int, value: bytes, kind: int = 0x40, *, coded: bool = False) -> bytes:
    """`kind`: 0x40 with indexing, 0 without, 0x10 never."""
    bits = 6 if kind == 0x40 else 4
    head = number(name, bits, kind) if isinstance(name, int) else number(0, bits, kind) + string(name, coded=coded)
    return head + string(value, coded=coded)


def resized(size: int) -> bytes:
    return number(size, 5, 0x20)


def library() -> Decoder:
    decoder = Decoder(HEAD_LIMIT)
    decoder.max_allowed_table_size = TABLE_LIMIT
    return decoder


def by_library(decoder: Decoder, block: bytes) -> tuple[tuple[str, str], ...]:
    decoded: Iterable[tuple[bytes, bytes]] = decoder.decode(block, raw=True)
    return tuple((bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in decoded)


def says(decoded: DecodedBlock) -> dict[str, object]:
    """Everything that a decoded block says."""
    return {
        "headers": decoded.headers,
        "shown": decoded.shown.headers,
        "complete": decoded.complete,
        "octets": decoded.octets,
        "is_request": decoded.is_request,
        "method": decoded.method,
        "path": decoded.path,
        "authority": decoded.authority,
        "status": decoded.status,
        "content_type": decoded.content_type,
    }


names = st.one_of(
    st.sampled_from([b":path", b":status", b":authority", b":x", b"content-type", b"x-a", b"cookie"]),
    st.binary(min_size=1, max_size=40),
)
values = st.one_of(st.sampled_from([b"", b"/", b"v" * 300]), st.binary(max_size=60))
sizes = st.sampled_from([0, 40, 100, 300, 4096, TABLE_LIMIT])


@st.composite
def representations(draw: st.DrawFn) -> bytes:
    """Any representation, also those that the library's encoder never chooses; indices may lead nowhere."""
    if draw(st.booleans()):
        return indexed(draw(st.integers(1, NEWEST + 6)))
    name = draw(st.one_of(st.integers(1, NEWEST + 6), names))
    return literal(name, draw(values), draw(st.sampled_from([0x40, 0, 0x10])), coded=draw(st.booleans()))


# A few, so that blocks of them are often the same, or the same but for one field.
repeated = st.sampled_from(
    [
        *(indexed(index) for index in (2, 8, NEWEST, NEWEST + 1, NEWEST + 4)),
        *(literal(name, value) for name in (b"x-a", 31, NEWEST) for value in (b"1", b"2")),
        *(literal(name, value, 0) for name in (4, b"x-b", NEWEST) for value in (b"1", b"2")),
        literal(b"x-long", b"v" * 300, 0),
    ]
)
