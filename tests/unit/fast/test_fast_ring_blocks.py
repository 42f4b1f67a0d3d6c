"""The fast readers of a ring's blocks give the packets that the plain one gives, from whole blocks and damaged ones."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ring_blocks import NOT_READY, SECOND, Kept, Laid, laid

from harness.mesh import replay
from tapper.capture.walk import Blocks
from tapper.fast.ring_blocks import WINDOW, BytewiseBlocks, WindowedBlocks

KINDS = pytest.mark.parametrize("kind", [WindowedBlocks, BytewiseBlocks])
TCP = bytes.fromhex("9c411f9000000001000000015018020000000000")
RIGHT = replay.packet("127.0.0.6", "10.0.0.1", TCP + b"payload")[14:]
WRONG = RIGHT[:-1] + b"!"

packets = st.builds(
    Kept,
    st.sampled_from([RIGHT, WRONG, b"", b"x", b"y" * 1500, b"z" * WINDOW]),
    st.integers(0, 1 << 60),
    st.integers(0, 1 << 31 - 1),
    st.none() | st.integers(1, 1 << 31),
    st.sampled_from([1, 1 | NOT_READY]),
)


def compare(ring: Laid, kind: type[Blocks]) -> None:
    plain, fast = ring.read(Blocks), ring.read(kind)
    assert fast.packets == plain.packets
    assert (fast.count, fast.cut, fast.bad_checksum) == (plain.count, plain.cut, plain.bad_checksum)


@KINDS
@given(st.lists(st.lists(packets, max_size=6), min_size=1, max_size=3))
@settings(max_examples=50, deadline=None)
def test_whole_blocks(kind: type[Blocks], blocks: list[list[Kept]]) -> None:
    compare(Laid(blocks), kind)


@KINDS
@given(
    st.lists(packets, min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(9, 1 << 12), st.integers(0, 255)), max_size=4),
)
@settings(max_examples=50, deadline=None)
def test_damaged_blocks(kind: type[Blocks], kept: list[Kept], changes: list[tuple[int, int]]) -> None:
    """Any bytes but the status that says that the block is ready."""
    block = bytearray(laid(kept))
    for at, value in changes:
        block[9 + at % (len(block) - 9)] = value
    ring = Laid([[], [Kept(b"after")]])
    ring.write(0, bytes(block))
    compare(ring, kind)


@KINDS
def test_a_block_that_was_read_before_it_was_ready(kind: type[Blocks]) -> None:
    """Its other packets come, once."""
    kept = [Kept(bytes([number]) * 1500, number * SECOND) for number in range(100)]
    ring = Laid([[], [Kept(b"after")]])
    ring.fill(0, kept[:40], ready=False)
    blocks = ring.blocks(kind)
    portions = [blocks.unfinished(), blocks.unfinished()]
    ring.fill(0, kept)
    portions += blocks.packets(2)
    read = [portion[0][start:stop] for portion in portions if portion for _, _, start, stop in portion[1]]
    assert read == [*(packet.data for packet in kept), b"after"]
    assert blocks.read == 101


@KINDS
def test_packets_come_in_windows(kind: type[Blocks]) -> None:
    """Of one block some packets at a time, also where a packet is larger than a window."""
    sizes = [0, 1, 40, 1500, 65_549, 3, WINDOW - 82, 9000, WINDOW - 81, *[700] * 300]
    ring = Laid([[Kept(bytes([number % 251]) * size, number * SECOND) for number, size in enumerate(sizes)]])
    compare(ring, kind)
    portions = ring.read(kind).portions
    assert sum(portions) == len(sizes)
    assert len(portions) > 5
    assert max(portions) > 50
