"""The packets of a ring's blocks, as the kernel lays them."""

from __future__ import annotations

import struct

import pytest
from ring_blocks import NOT_READY, SECOND, VALID, Kept, Laid, laid

from harness.mesh import replay
from tapper.capture.walk import Blocks, Packets


def contents(portion: Packets | None) -> list[bytes] | None:
    return None if portion is None else [portion[0][start:stop] for _, _, start, stop in portion[1]]


def test_every_packet_comes_once_and_as_it_was() -> None:
    sizes = [0, 1, 40, 1500, 65_549, 3, 65_454, 9000, 65_455, *[700] * 300, 65_549, 5]
    packets = [
        Kept(bytes([number % 251]) * size, 1_795_000_000 * SECOND + number * 999_999_937, number % 3)
        for number, size in enumerate(sizes)
    ]
    read = Laid([packets[:4], packets[4:]]).read(Blocks)
    assert read.packets == packets
    assert (read.count, read.cut, read.bad_checksum) == (len(packets), 0, 0)


def test_packets_that_the_kernel_cut_are_counted() -> None:
    read = Laid([[Kept(b"a"), Kept(b"b", length=2), Kept(b"c", length=70_000)]]).read(Blocks)
    assert [packet.data for packet in read.packets] == [b"a", b"b", b"c"]
    assert read.cut == 2


def test_an_empty_block() -> None:
    read = Laid([[], [Kept(b"a")]]).read(Blocks)
    assert [packet.data for packet in read.packets] == [b"a"]


def test_blocks_are_read_in_turn_and_given_back() -> None:
    """A block that the kernel has not filled again is not read again."""
    ring = Laid([[Kept(b"a")], [Kept(b"b")], [Kept(b"c")]])
    blocks = ring.blocks(Blocks)
    assert (blocks.waiting(0), blocks.waiting(2)) == (True, True)
    assert [len(packets) for _, packets in blocks.packets(2)] == [1, 1]
    assert (blocks.waiting(0), blocks.waiting(1), blocks.read) == (True, False, 2)
    assert [memory[packets[0][2] : packets[0][3]] for memory, packets in blocks.packets(10)] == [b"c"]
    assert list(blocks.packets(10)) == []
    ring.fill(0, [Kept(b"d")])
    assert [memory[packets[0][2] : packets[0][3]] for memory, packets in blocks.packets(10)] == [b"d"]


def test_a_block_that_the_kernel_still_fills_is_read_packet_by_packet() -> None:
    """A packet comes once: at the second look, or with the rest of the block when that is ready."""
    first, second, third = Kept(b"first"), Kept(b"second"), Kept(b"third")
    ring = Laid([[], []])
    blocks = ring.blocks(Blocks)
    assert contents(next(blocks.packets(1))) == []
    ring.fill(1, [first], ready=False)
    assert contents(blocks.unfinished()) is None, "it may not be complete yet"
    ring.fill(1, [first, second], ready=False)
    assert contents(blocks.unfinished()) == [b"first"]
    assert list(blocks.packets(2)) == [], "the block is not ready"
    assert contents(blocks.unfinished()) == [b"second"]
    assert contents(blocks.unfinished()) is None
    ring.fill(1, [first, second, third])
    assert contents(blocks.unfinished()) is None, "the block is ready"
    assert [contents(portion) for portion in blocks.packets(2)] == [[b"third"]]
    assert blocks.read == 3


def test_a_packet_without_the_kernels_mark_is_not_read() -> None:
    ring = Laid([[]])
    blocks = ring.blocks(Blocks)
    ring.fill(0, [Kept(b"whole"), Kept(b"half", status=0), Kept(b"whole, too")], ready=False)
    assert blocks.unfinished() is None
    assert contents(blocks.unfinished()) == [b"whole"]
    ring.fill(0, [Kept(b"whole"), Kept(b"half no more"), Kept(b"whole, too")], ready=False)
    assert contents(blocks.unfinished()) == [b"half no more", b"whole, too"]


def test_a_block_that_was_read_is_not_read_again_before_the_kernel_begins_it() -> None:
    blocks = Laid([[Kept(b"old")]]).blocks(Blocks)
    assert [contents(portion) for portion in blocks.packets(1)] == [[b"old"]]
    assert [blocks.unfinished(), blocks.unfinished()] == [None, None]


def test_the_rest_is_every_block_and_the_unfinished_one() -> None:
    ring = Laid([[Kept(b"a")], [Kept(b"b")], []])
    ring.fill(2, [Kept(b"c")], ready=False)
    assert [contents(portion) for portion in ring.blocks(Blocks).rest()] == [[b"a"], [b"b"], [b"c"]]


@pytest.mark.parametrize("source", ["127.0.0.6", "::6"])
@pytest.mark.parametrize("length", [0, 1, 1001])
def test_a_packet_with_a_wrong_checksum_is_left_out_and_counted(source: str, length: int) -> None:
    """Wherever a byte is wrong. The packets before and after it stay."""
    target = "10.0.0.1" if "." in source else "fd00::1"
    tcp = struct.pack("!HHIIBBHHH", 40001, 8080, 1, 1, 5 << 4, 0x18, 512, 0, 0)
    right = replay.packet(source, target, tcp + b"p" * length)[14:]  # without the Ethernet header
    for at in (len(right) - 1, len(right) - length - 4, 12, 20):
        wrong = right[:at] + bytes([right[at] ^ 1]) + right[at + 1 :]
        read = Laid([[Kept(right, status=1), Kept(wrong, status=1), Kept(right, status=1)]]).read(Blocks)
        assert [packet.data for packet in read.packets] == [right, right]
        assert (read.bad_checksum, read.count) == (1, 3)


@pytest.mark.parametrize("status", [1 | NOT_READY, 1 | VALID])
def test_a_checksum_that_the_receiver_does_not_look_at_is_not_looked_at(status: int) -> None:
    tcp = struct.pack("!HHIIBBHHH", 40001, 8080, 1, 1, 5 << 4, 0x18, 512, 0, 0)
    wrong = replay.packet("127.0.0.6", "10.0.0.1", tcp)[14:-1] + b"\xff"
    assert [packet.data for packet in Laid([[Kept(wrong, status=status)]]).read(Blocks).packets] == [wrong]


@pytest.mark.parametrize("data", [b"", b"\x45", b"\x45" + bytes(18), b"\x60" + bytes(30), bytes(60), b"\xff" * 60])
def test_a_packet_without_tcp_is_not_checked(data: bytes) -> None:
    assert [packet.data for packet in Laid([[Kept(data, status=1)]]).read(Blocks).packets] == [data]


def test_a_damaged_block_costs_only_its_own_packets() -> None:
    """A packet that says it is longer than its block, and a count that is too large."""
    broken = laid([Kept(b"a"), Kept(b"b"), Kept(b"c")])
    second = 48 + struct.unpack_from("=I", broken, 48)[0]
    for damage in (
        broken[: second + 12] + struct.pack("=I", 1 << 31) + broken[second + 16 :],
        broken[:12] + struct.pack("=I", 1 << 31) + broken[16:],
    ):
        ring = Laid([[], [Kept(b"d")]])
        ring.write(0, damage)
        data = [packet.data for packet in ring.read(Blocks).packets]
        assert data[0] == b"a"
        assert data[-1] == b"d"
        assert len(data) <= 4
