"""The fast decoder of header blocks says what the plain one says, and its caches are bounded."""

from __future__ import annotations

import tracemalloc

import pytest
from hpack_wire import NEWEST, coder, indexed, literal, repeated, representations, resized, says, sizes
from hypothesis import given, settings
from hypothesis import strategies as st

from tapper.fast.blocks import FastBlockDecoder
from tapper.protocols.blocks import BlockDecoder

FORGET = None
"""In place of a block: blocks were lost."""


def hold_equal(blocks: list[bytes | None], *, from_start: bool = True) -> None:
    """Decode the blocks with both decoders, and require the same of both."""
    plain, fast = BlockDecoder(from_start=from_start), FastBlockDecoder(from_start=from_start)
    for block in blocks:
        if block is FORGET:
            plain.forget()
            fast.forget()
        else:
            assert says(fast.decode(block)) == says(plain.decode(block))
        assert fast.held == plain.held


updates = st.lists(sizes, max_size=2).map(lambda limits: b"".join(map(resized, limits)))
any_blocks = st.builds(
    lambda update, fields: update + b"".join(fields), updates, st.lists(representations(), max_size=8)
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(any_blocks, any_blocks, st.binary(max_size=60), st.just(FORGET)), max_size=12), st.booleans())
def test_any_blocks(blocks: list[bytes | None], from_start: bool) -> None:
    """Valid, malformed or lost; also those of a connection that is joined midway."""
    hold_equal(blocks, from_start=from_start)


@settings(max_examples=500, deadline=None)
@given(st.data(), st.booleans())
def test_blocks_that_repeat_but_for_a_field(data: st.DataObject, from_start: bool) -> None:
    """A cached block is not taken for what it meant before the table changed."""
    history: list[list[bytes]] = [[]]
    blocks: list[bytes | None] = []
    for _ in range(data.draw(st.integers(1, 15))):
        fields = list(data.draw(st.sampled_from(history[-3:])))
        change = data.draw(st.one_of(st.none(), st.tuples(st.integers(0, len(fields)), st.integers(0, 1), repeated)))
        if change is not None:
            at, replaced, field = change
            fields[at : at + replaced] = [field]
        history.append(fields)
        update = data.draw(st.sampled_from([b"", b"", b"", resized(70), resized(4096), FORGET]))
        blocks += [FORGET, b"".join(fields)] if update is FORGET else [update + b"".join(fields)]
    hold_equal(blocks, from_start=from_start)


NONCE = [literal(b"x-nonce", str(number).encode(), 0) for number in range(4)]
PATH = [literal(4, b"/%d" % number, 0) for number in range(4)]


@pytest.mark.parametrize(
    "blocks",
    [
        pytest.param([indexed(NEWEST) + NONCE[0], literal(b"y", b"2"), indexed(NEWEST) + NONCE[1]], id="table changed"),
        pytest.param([indexed(NEWEST) + NONCE[0], FORGET, indexed(NEWEST) + NONCE[1]], id="table forgotten"),
        pytest.param([literal(b"y", b"2") + nonce for nonce in NONCE] + [indexed(NEWEST + 2)], id="entry added again"),
        pytest.param([PATH[0] + PATH[1], PATH[0] + PATH[2]], id="the second path"),
        pytest.param([PATH[0] + PATH[1], PATH[2] + PATH[1]], id="the first path"),
        pytest.param([literal(8, b"200", 0), literal(8, b"204", 0), literal(8, b"100", 0)], id="status"),
        pytest.param([literal(31, b"a", 0), literal(31, b"b", 0), literal(31, b"c", 0)], id="content-type"),
        pytest.param([NONCE[0], literal(b"x-other", b"1", 0), PATH[0]], id="another name"),
        pytest.param([NONCE[0], NONCE[0][:-1], NONCE[1] + NONCE[2], NONCE[1] + b"\0"], id="no single literal"),
        pytest.param([indexed(2) + NONCE[0], indexed(2), indexed(2) + NONCE[1]], id="no literal"),
        pytest.param([indexed(2) + NONCE[0] + indexed(2), indexed(2)], id="the beginning is the end"),
        pytest.param([NONCE[0], literal(b"x-nonce", b"1"), indexed(NEWEST)], id="a literal with indexing"),
        pytest.param([NONCE[0], literal(NEWEST, b"1", 0), indexed(2)], id="the name of an entry"),
        pytest.param([NONCE[0], literal(b"x-nonce", b"v" * 70_000, 0), NONCE[1]], id="larger than any head"),
    ],
)
@pytest.mark.parametrize("from_start", [True, False])
def test_blocks_that_differ_in_a_literal(blocks: list[bytes | None], from_start: bool) -> None:
    hold_equal([literal(b"x", b"1"), *blocks, *blocks], from_start=from_start)


@given(st.binary(max_size=12), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_any_huffman_code(data: bytes, octet: int) -> None:
    """Of valid strings, and of strings with an octet at their end that is padding, a code, or neither."""
    for coded in (coder.encode(data), coder.encode(data) + bytes([octet]), bytes([octet]) + data):
        hold_equal([b"\0\x01x" + bytes([0x80 | len(coded)]) + coded])


def test_blocks_with_the_same_fields_share_what_they_show() -> None:
    """So what others derive from the fields of a message need not be derived again."""
    decoder = FastBlockDecoder(from_start=True)
    decoder.decode(literal(b":authority", b"shop") + literal(b"accept", b"*/*"))
    blocks = [
        indexed(2) + literal(4, path, 0) + indexed(NEWEST + 1) + indexed(NEWEST) for path in (b"/1", b"/2", b"/2")
    ]
    first, second, third = [decoder.decode(block) for block in blocks]
    assert (first.path, second.path) == ("/1", "/2")
    assert first.shown is second.shown is third.shown


def test_the_caches_are_bounded() -> None:
    """Each block is new and refers to an entry of 3,000 octets, which the next block evicts."""
    decoder = FastBlockDecoder(from_start=True)
    tracemalloc.start()
    try:
        for number in range(1_000):
            value = b"%04d" % number + b"v" * 3_000
            decoder.decode(literal(b"x", value))
            block = indexed(NEWEST) + literal(b"long", value, 0)
            assert decoder.decode(block).headers[0][1] == value.decode()
            assert decoder.decode(indexed(NEWEST) + literal(b"new", value[:200], 0)).complete
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_500_000, "half of what the blocks had"
