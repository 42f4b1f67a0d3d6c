"""The decoder of header blocks is held to the hpack library where an endpoint may read a block, else to RFC 7541."""

from __future__ import annotations

import pytest
from hpack import Encoder, HPACKError
from hpack_wire import (
    NEWEST,
    by_library,
    coder,
    indexed,
    library,
    literal,
    names,
    number,
    representations,
    resized,
    says,
    sizes,
    values,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tapper.protocols.blocks import TABLE_LIMIT, BlockDecoder, DecodedBlock
from tapper.protocols.headers import Headers


def both(decoded: DecodedBlock) -> tuple[Headers, bool]:
    """The known fields of a block, and whether these are all."""
    return decoded.headers, decoded.complete


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), sizes), st.booleans(), st.lists(st.tuples(names, values, st.booleans()), max_size=12)
        ),
        max_size=12,
    )
)
def test_blocks_of_the_librarys_encoder(
    blocks: list[tuple[int | None, bool, list[tuple[bytes, bytes, bool]]]],
) -> None:
    encoder, reference, decoder = Encoder(), library(), BlockDecoder(from_start=True)
    for size, coded, fields in blocks:
        if size is not None:
            encoder.header_table_size = size
        block = encoder.encode(fields, huffman=coded)
        assume(b"\0" not in (name for name, _, _ in fields))  # it stands for the unknown
        assert both(decoder.decode(block)) == (by_library(reference, block), True)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.lists(sizes, max_size=2), st.lists(representations(), max_size=8)), max_size=12),
    st.one_of(st.none(), st.tuples(st.integers(0, 11), st.integers(0, 100), st.integers(0, 255))),
)
def test_blocks_of_any_encoder(blocks: list[tuple[list[int], list[bytes]]], harm: tuple[int, int, int] | None) -> None:
    """Both decoders agree up to the first block that the library refuses; ours is incomplete there. One octet may be
    changed."""
    reference, decoder = library(), BlockDecoder(from_start=True)
    for turn, (updates, fields) in enumerate(blocks):
        block = bytearray(b"".join(map(resized, updates)) + b"".join(fields))
        if harm is not None and harm[0] == turn and harm[1] < len(block):
            block[harm[1]] = harm[2]
        decoded = decoder.decode(bytes(block))
        try:
            expected = by_library(reference, bytes(block))
        except HPACKError:
            assert not decoded.complete
            return
        assume(all(name != "\0" for name, _ in expected))
        first = dict(reversed(expected))  # of fields with the same name, the first counts
        assert says(decoded) == {
            "headers": expected,
            "complete": True,
            "shown": tuple(field for field in expected if field[0] == ":authority" or field[0][:1] != ":"),
            "octets": sum(len(name) + len(value) for name, value in expected),
            "is_request": not {":method", ":path", ":scheme", ":authority"}.isdisjoint(first),
            "method": first.get(":method"),
            "path": first.get(":path"),
            "authority": first.get(":authority"),
            "status": first.get(":status"),
            "content_type": first.get("content-type"),
        }


def test_forgotten_entries_are_unknown() -> None:
    decoder = BlockDecoder(from_start=True)
    decoder.decode(literal(b"x", b"1"))
    assert [both(decoder.decode(indexed(NEWEST))) for _ in range(2)] == [((("x", "1"),), True)] * 2
    decoder.forget()
    assert both(decoder.decode(indexed(NEWEST))) == ((), False)


@pytest.mark.parametrize("kind", [0, 0x40])
def test_an_entry_that_was_evicted_within_a_block_gives_no_name_in_it(kind: int) -> None:
    decoder = BlockDecoder(from_start=True)
    block = resized(34) + literal(b"a", b"1") + literal(b"b", b"1") + literal(NEWEST + 1, b"2", kind)
    assert both(decoder.decode(block)) == ((("a", "1"), ("b", "1")), False)


@settings(max_examples=100, deadline=None)
@given(st.lists(representations(), max_size=30), st.integers(0, 20), st.integers(1, 5))
def test_a_decoder_that_joins_late_knows_a_part_of_each_block_and_invents_nothing(
    fields: list[bytes], missed: int, step: int
) -> None:
    """Its fields are the sender's, in the sender's order; a block that lacks one is incomplete."""
    reference, late = library(), BlockDecoder(from_start=False)
    for at in range(0, len(fields), step):
        block = b"".join(fields[at : at + step])
        try:
            expected = by_library(reference, block)
        except HPACKError:
            return
        if at >= missed:
            decoded = late.decode(block)
            rest = iter(expected)
            assert all(field in rest for field in decoded.headers)
            assert decoded.complete == (decoded.headers == expected) or "\0" in (name for name, _ in expected)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=10), st.booleans())
def test_no_bytes_make_it_raise_or_grow(blocks: list[bytes], from_start: bool) -> None:
    decoder = BlockDecoder(from_start=from_start)
    for block in blocks:
        decoder.decode(block)
        assert decoder.held <= 50 * sum(map(len, blocks))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff", id="eight bits of padding"),
        pytest.param(coder.encode(b"a") + b"\xff", id="an octet of padding"),
        pytest.param(b"\x00\x00", id="padding of zeros"),
        pytest.param(b"\xff\xff\xff\xff", id="the end-of-string code"),
    ],
)
def test_a_string_that_is_no_huffman_code_is_malformed(data: bytes) -> None:
    block = number(0, 4, 0) + b"\x01x" + number(len(data), 7, 0x80) + data
    assert both(BlockDecoder(from_start=True).decode(block)) == ((), False)


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(indexed(0), id="index 0"),
        pytest.param(resized(TABLE_LIMIT + 1), id="a table over the limit"),
        pytest.param(indexed(2) + resized(0), id="a size after a field"),
        pytest.param(literal(4, b"/", 0) + resized(0), id="a size after a literal without indexing"),
        pytest.param(b"\xff" + b"\xff" * 1000, id="an integer without an end"),
        pytest.param(b"\x7f\x80\x80\x80\x80\x01", id="an integer over 28 bits"),
        pytest.param(b"\x40", id="no name"),
        pytest.param(b"\x40\x05abc", id="half a name"),
        pytest.param(b"\x40\x01a", id="no value"),
        pytest.param(b"\x40\x01a\x05abc", id="half a value"),
        pytest.param(b"\x40\x01a\x7f", id="half a length"),
    ],
)
def test_a_malformed_block_leaves_the_table_unknown(block: bytes) -> None:
    decoder = BlockDecoder(from_start=True)
    assert both(decoder.decode(literal(b"x", b"1"))) == ((("x", "1"),), True)
    assert both(decoder.decode(block)) == ((), False)
    assert both(decoder.decode(indexed(NEWEST))) == ((), False)
    assert both(decoder.decode(literal(b"x", b"2") + indexed(NEWEST))) == ((("x", "2"), ("x", "2")), True)


def test_a_small_block_with_large_fields_is_refused() -> None:
    decoder = BlockDecoder(from_start=True)
    bomb = literal(b"x", b"v" * 4000) + indexed(NEWEST) * 17
    assert both(decoder.decode(bomb)) == ((), False)
    assert decoder.held == 0


def test_a_table_is_no_larger_than_its_limit_and_the_oldest_entries_go_first() -> None:
    decoder = BlockDecoder(from_start=True)
    decoder.decode(resized(3 * 34) + b"".join(literal(name, b"1") for name in (b"a", b"b", b"c", b"d")))
    assert decoder.held == 3 * 34
    newest = b"".join(indexed(NEWEST + age) for age in range(4))
    assert both(decoder.decode(newest)) == ((("d", "1"), ("c", "1"), ("b", "1")), False)
    assert decoder.decode(literal(b"e", b"v" * 100)).headers == (("e", "v" * 100),)
    assert decoder.held == 0, "an entry larger than the table empties it (section 4.4)"
    for _ in range(5000):
        decoder.decode(literal(b"x", b"v" * 30))
        assert decoder.held <= 3 * 34


def test_an_entry_with_an_unknown_name_stays_unknown() -> None:
    """Its value is known, and is not shown as another field's. Each block that refers to it is incomplete."""
    decoder = BlockDecoder(from_start=False)
    assert both(decoder.decode(literal(NEWEST + 3, b"1"))) == ((), False)
    assert both(decoder.decode(indexed(NEWEST) + indexed(2))) == (((":method", "GET"),), False)
