"""The HPACK reader is held to the hpack library on whatever an encoder may say, and to RFC 7541 where it may not."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import pytest
from hpack import Decoder, Encoder, HPACKError
from hpack.hpack import encode_integer
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tapper.protocols import huffman
from tapper.protocols.blocks import TABLE_LIMIT, BlockReader
from tapper.protocols.fields import Fields
from tapper.protocols.headers import Headers
from tapper.protocols.huffman import Malformed
from tapper.protocols.messages import HEAD_LIMIT

FIRST = 62
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


def told(decoder: Decoder, block: bytes) -> tuple[tuple[str, str], ...]:
    decoded: Iterable[tuple[bytes, bytes]] = decoder.decode(block, raw=True)
    return tuple((bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in decoded)


def both(fields: Fields) -> tuple[Headers, bool]:
    """What a block said, and whether that is all."""
    return fields.headers, fields.complete


names = st.one_of(
    st.sampled_from([b":path", b":status", b":authority", b":x", b"content-type", b"x-a", b"cookie"]),
    st.binary(min_size=1, max_size=40),
)
values = st.one_of(st.sampled_from([b"", b"/", b"v" * 300]), st.binary(max_size=60))
sizes = st.sampled_from([0, 40, 100, 300, 4096, TABLE_LIMIT])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), sizes), st.booleans(), st.lists(st.tuples(names, values, st.booleans()), max_size=12)
        ),
        max_size=12,
    )
)
def test_what_the_librarys_encoder_says(
    blocks: list[tuple[int | None, bool, list[tuple[bytes, bytes, bool]]]],
) -> None:
    encoder, decoder, reader = Encoder(), library(), BlockReader(known=True)
    for size, coded, fields in blocks:
        if size is not None:
            encoder.header_table_size = size
        block = encoder.encode(fields, huffman=coded)
        assume(b"\0" not in (name for name, _, _ in fields))  # it stands for the unknown
        assert both(reader.decode(block)) == (told(decoder, block), True)


@st.composite
def fields(draw: st.DrawFn) -> bytes:
    """Any representation, also those that the library's encoder never chooses; indices may lead nowhere."""
    if draw(st.booleans()):
        return indexed(draw(st.integers(1, FIRST + 6)))
    name = draw(st.one_of(st.integers(1, FIRST + 6), names))
    return literal(name, draw(values), draw(st.sampled_from([0x40, 0, 0x10])), coded=draw(st.booleans()))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.lists(sizes, max_size=2), st.lists(fields(), max_size=8)), max_size=12),
    st.one_of(st.none(), st.tuples(st.integers(0, 11), st.integers(0, 100), st.integers(0, 255))),
)
def test_what_any_encoder_may_say(
    blocks: list[tuple[list[int], list[bytes]]], harm: tuple[int, int, int] | None
) -> None:
    """Up to the first block that the library refuses; there, something is said to be missing. One octet may be
    harmed."""
    decoder, reader = library(), BlockReader(known=True)
    for turn, (updates, said) in enumerate(blocks):
        block = bytearray(b"".join(map(resized, updates)) + b"".join(said))
        if harm is not None and harm[0] == turn and harm[1] < len(block):
            block[harm[1]] = harm[2]
        ours = reader.decode(bytes(block))
        try:
            expected = told(decoder, bytes(block))
        except HPACKError:
            assert not ours.complete
            return
        assume(all(name != "\0" for name, _ in expected))
        assert both(ours) == (expected, True)
        assert ours.shown == tuple(field for field in expected if field[0] == ":authority" or field[0][:1] != ":")
        first = dict(reversed(expected))  # of equal ones the first
        assert (ours.method, ours.path) == (first.get(":method"), first.get(":path"))
        assert (ours.authority, ours.status) == (first.get(":authority"), first.get(":status"))
        assert ours.content_type == first.get("content-type")
        assert ours.asks == (not {":method", ":path", ":scheme", ":authority"}.isdisjoint(first))
        assert ours.octets == sum(len(name) + len(value) for name, value in expected)
        assert ours.size == ours.octets + 32 * len(expected)


few = st.sampled_from(
    [
        *(indexed(index) for index in (2, 8, FIRST, FIRST + 1, FIRST + 4)),
        *(literal(name, value) for name in (b"x-a", 31, FIRST) for value in (b"1", b"2")),
        *(literal(name, value, 0) for name in (4, b"x-b", FIRST) for value in (b"1", b"2")),
        literal(b"x-long", b"v" * 300, 0),
    ]
)


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_what_comes_again_means_what_the_table_says(data: st.DataObject) -> None:
    """Blocks that are the ones before, or but for a field: what is remembered of them is not taken for more."""
    decoder, reader = library(), BlockReader(known=True)
    sent: list[list[bytes]] = [[]]
    for _ in range(data.draw(st.integers(1, 12))):
        said = list(data.draw(st.sampled_from(sent[-3:])))
        changed = data.draw(st.one_of(st.none(), st.tuples(st.integers(0, len(said)), st.integers(0, 1), few)))
        if changed is not None:
            at, replaced, field = changed
            said[at : at + replaced] = [field]
        sent.append(said)
        resize = data.draw(st.sampled_from([b"", b"", b"", resized(70), resized(4096)]))
        try:
            expected = told(decoder, resize + b"".join(said))
        except HPACKError:
            assert not reader.decode(resize + b"".join(said)).complete
            return
        assert both(reader.decode(resize + b"".join(said))) == (expected, True)
        assert reader.held == decoder.header_table._current_size


REQUEST = [indexed(2), literal(b":authority", b"shop"), literal(b"accept", b"*/*")]


def test_what_is_behind_a_new_value_is_remembered_and_follows_the_table() -> None:
    """A value that is not kept is different each time, and the same fields are behind it; then the table changes."""
    reader = BlockReader(known=True)
    reader.decode(b"".join(REQUEST))
    end = indexed(FIRST + 1) + indexed(FIRST)
    shown = []
    for path in (b"/1", b"/2", b"/3", b"/3"):
        fields = reader.decode(indexed(2) + literal(4, path, 0) + end)
        assert (fields.method, fields.path, fields.authority) == ("GET", path.decode(), "shop")
        assert fields.headers[2:] == fields.shown == ((":authority", "shop"), ("accept", "*/*"))
        shown.append(fields.shown)
    assert all(each is shown[0] for each in shown), "the same object: what was made of it is known"
    reader.decode(literal(b"x", b"new"))
    moved = reader.decode(indexed(2) + literal(4, b"/4", 0) + end)
    assert moved.headers == ((":method", "GET"), (":path", "/4"), ("accept", "*/*"), ("x", "new"))


def test_what_a_remembered_part_adds_to_the_table_is_added_again() -> None:
    reader = BlockReader(known=True)
    for turn in range(1, 200):
        tag = str(turn).encode()
        fields = reader.decode(indexed(8) + literal(b"date", b"today") + literal(b"etag", tag, 0) + indexed(2))
        assert fields.headers == ((":status", "200"), ("date", "today"), ("etag", str(turn)), (":method", "GET"))
        assert reader.held == min(turn, 4096 // 41) * 41
    reader.decode(resized(2 * 41))
    fields = reader.decode(indexed(FIRST) + indexed(FIRST + 1) + indexed(FIRST + 2))
    assert both(fields) == ((("date", "today"),) * 2, False)


def test_what_is_behind_a_remembered_part_refers_to_what_that_added() -> None:
    reader = BlockReader(known=True)
    reader.decode(literal(b"x", b"1"))
    said = [
        reader.decode(literal(b"date", b"today") + literal(b"etag", tag, 0) + indexed(FIRST + 1)).headers[2]
        for tag in (b"1", b"2")
    ]
    assert said == [("x", "1"), ("date", "today")]


def test_what_is_remembered_does_not_keep_entries_that_are_gone() -> None:
    """Else a connection could hold a table's worth of bytes for each block, which nobody counts."""
    refers = indexed(FIRST)
    for block in (refers, refers + literal(4, b"1", 0) + indexed(2), literal(4, b"1", 0) + refers):
        reader = BlockReader(known=True)
        reader.decode(literal(b"x", b"1" * 3000))
        assert ("x", "1" * 3000) in reader.decode(block).headers
        reader.decode(literal(b"x", b"2" * 3000))
        parts = [*reader._wholes.values(), *reader._ends.values(), reader._beginning]
        kept = [field for part in parts if part is not None for field in part.fields.headers]
        assert ("x", "1" * 3000) not in kept


def test_what_was_forgotten_is_not_remembered() -> None:
    reader = BlockReader(known=True)
    reader.decode(literal(b"x", b"1"))
    assert [both(reader.decode(indexed(FIRST))) for _ in range(2)] == [((("x", "1"),), True)] * 2
    reader.forget()
    assert both(reader.decode(indexed(FIRST))) == ((), False)


@pytest.mark.parametrize("kind", [0, 0x40])
def test_an_entry_that_went_within_a_block_gives_no_name_in_it(kind: int) -> None:
    reader = BlockReader(known=True)
    block = resized(34) + literal(b"a", b"1") + literal(b"b", b"1") + literal(FIRST + 1, b"2", kind)
    assert both(reader.decode(block)) == ((("a", "1"), ("b", "1")), False)


def test_a_remembered_part_is_not_taken_for_less_than_it_is() -> None:
    """The same octets, and then a field that the part would have gone on with."""
    reader = BlockReader(known=True)
    for value in (b"1", b"2", b"3"):
        reader.decode(indexed(8) + literal(b"x", value, 0))
    assert reader.decode(indexed(8) + indexed(2) + literal(b"x", b"4", 0)).headers == (
        (":status", "200"),
        (":method", "GET"),
        ("x", "4"),
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(fields(), max_size=30), st.integers(0, 20), st.integers(1, 5))
def test_whoever_comes_late_knows_a_part_of_it_and_nothing_else(said: list[bytes], missed: int, each: int) -> None:
    """What is shown is what the sender said, in its order; what is missing is said."""
    decoder, late = library(), BlockReader(known=False)
    for at in range(0, len(said), each):
        block = b"".join(said[at : at + each])
        try:
            expected = told(decoder, block)
        except HPACKError:
            return
        if at >= missed:
            ours = late.decode(block)
            rest = iter(expected)
            assert all(field in rest for field in ours.headers)
            assert ours.complete == (ours.headers == expected) or "\0" in (name for name, _ in expected)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=10), st.booleans())
def test_no_bytes_make_it_raise_or_grow(blocks: list[bytes], known: bool) -> None:
    reader = BlockReader(known=known)
    for block in blocks:
        reader.decode(block)
        assert reader.held <= 50 * sum(map(len, blocks))


@given(st.binary(max_size=200))
def test_any_string_comes_back_from_its_huffman_code(data: bytes) -> None:
    assert huffman.decode(coder.encode(data)) == data.decode("latin-1")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff", id="eight bits of padding"),
        pytest.param(coder.encode(b"a") + b"\xff", id="an octet of padding"),
        pytest.param(b"\x00\x00", id="padding of zeros"),
        pytest.param(b"\xff\xff\xff\xff", id="the end-of-string code"),
    ],
)
def test_what_is_no_huffman_code_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        huffman.decode(data)
    block = number(0, 4, 0) + b"\x01x" + number(len(data), 7, 0x80) + data
    assert both(BlockReader(known=True).decode(block)) == ((), False)


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(indexed(0), id="index 0"),
        pytest.param(resized(TABLE_LIMIT + 1), id="a table over the limit"),
        pytest.param(indexed(2) + resized(0), id="a size behind a field"),
        pytest.param(literal(4, b"/", 0) + resized(0), id="a size behind a value that is not kept"),
        pytest.param(b"\xff" + b"\xff" * 1000, id="a number without an end"),
        pytest.param(b"\x7f\x80\x80\x80\x80\x01", id="a number over 28 bits"),
        pytest.param(b"\x40", id="no name"),
        pytest.param(b"\x40\x05abc", id="half a name"),
        pytest.param(b"\x40\x01a", id="no value"),
        pytest.param(b"\x40\x01a\x05abc", id="half a value"),
        pytest.param(b"\x40\x01a\x7f", id="half a length"),
    ],
)
def test_a_malformed_block_costs_what_was_known(block: bytes) -> None:
    reader = BlockReader(known=True)
    assert both(reader.decode(literal(b"x", b"1"))) == ((("x", "1"),), True)
    assert both(reader.decode(block)) == ((), False)
    assert both(reader.decode(indexed(FIRST))) == ((), False)
    assert both(reader.decode(literal(b"x", b"2") + indexed(FIRST))) == ((("x", "2"), ("x", "2")), True)


def test_a_small_block_that_means_much_is_refused() -> None:
    reader = BlockReader(known=True)
    bomb = literal(b"x", b"v" * 4000) + indexed(FIRST) * 17
    assert both(reader.decode(bomb)) == ((), False)
    assert reader.held == 0


def test_a_table_is_no_larger_than_its_limit_and_the_oldest_go_first() -> None:
    reader = BlockReader(known=True)
    reader.decode(resized(3 * 34) + b"".join(literal(name, b"1") for name in (b"a", b"b", b"c", b"d")))
    assert reader.held == 3 * 34
    newest = b"".join(indexed(FIRST + age) for age in range(4))
    assert both(reader.decode(newest)) == ((("d", "1"), ("c", "1"), ("b", "1")), False)
    assert reader.decode(literal(b"e", b"v" * 100)).headers == (("e", "v" * 100),)
    assert reader.held == 0, "an entry that is too large empties the table (section 4.4)"
    for _ in range(5000):
        reader.decode(literal(b"x", b"v" * 30))
        assert reader.held <= 3 * 34


def test_a_block_that_repeats_follows_a_new_size_of_the_table() -> None:
    reader = BlockReader(known=True)
    reader.decode(literal(b"x", b"1"))
    assert [reader.decode(indexed(FIRST)).headers for _ in range(2)] == [(("x", "1"),)] * 2
    reader.decode(resized(0))
    assert both(reader.decode(indexed(FIRST))) == ((), False)


def test_an_entry_with_an_unknown_name_stays_unknown() -> None:
    """Its value was seen, and is not shown as something else's; each block that refers to it says that a field is
    missing."""
    reader = BlockReader(known=False)
    assert both(reader.decode(literal(FIRST + 3, b"1"))) == ((), False)
    assert both(reader.decode(indexed(FIRST) + indexed(2))) == (((":method", "GET"),), False)


def test_memories_are_bounded() -> None:
    assert huffman._remember.cache_info().maxsize == huffman._REMEMBERED
    before = huffman._remember.cache_info().currsize
    huffman.decode(coder.encode(b"long, and not seen before" * 10))
    assert huffman._remember.cache_info().currsize == before
    steps = huffman._Steps()
    for key in range(len(steps.known)):
        with suppress(Malformed):
            steps.work_out(key)
        assert steps.count <= huffman._MOST_STEPS
    assert 0 < steps.count == sum(step is not None for step in steps.known)
