"""The packets of a ring's block, as the kernel lays them."""

from __future__ import annotations

import mmap
import struct
import sys
from dataclasses import dataclass

import pytest

from tapper.capture import walk
from tapper.capture.walk import WINDOW, Block
from tapper.streams.packet import Packet

BASE = 4096
SECOND = 1_000_000_000


@dataclass(frozen=True)
class Kept:
    """A packet of the block."""

    data: bytes
    ts: int = 0
    ifindex: int = 1
    length: int | None = None
    """How long it was on the wire, where that is more."""


def block(packets: list[Kept]) -> mmap.mmap:
    """linux/if_packet.h: a block descriptor, then for each packet a tpacket3_hdr, a sockaddr_ll, and the packet, each
    aligned to 16 bytes. What lies behind the last is none of them."""
    descriptor = 48
    body = b""
    for packet in packets:
        start = 82
        step = -(-(start + len(packet.data)) // 16) * 16
        seconds, nanoseconds = divmod(packet.ts, SECOND)
        length = len(packet.data) if packet.length is None else packet.length
        header = struct.pack("=IIIIIIHH", step, seconds, nanoseconds, len(packet.data), length, 1, start, start)
        header += bytes(48 - len(header)) + struct.pack("=HHi", 0, 0, packet.ifindex)
        body += (header + bytes(start - len(header)) + packet.data).ljust(step, b"\0")
    used = descriptor + len(body)
    memory = mmap.mmap(-1, BASE + used + 2 * WINDOW)
    memory[BASE : BASE + 24] = struct.pack("=IIIIII", 2, 48, 1, len(packets), descriptor, used)
    memory[BASE + descriptor : BASE + used] = body
    memory[BASE + used :] = b"\xff" * (2 * WINDOW)
    return memory


def taken(memory: mmap.mmap) -> tuple[list[Kept], list[int], int]:
    """The packets, how many came at a time, and how many were cut."""
    whole, found, portions = Block(memory, BASE), [], []
    while whole.left:
        window, packets = whole.take()
        portions.append(len(packets))
        found += [kept(window, packet) for packet in packets]
    return found, portions, whole.cut


def kept(window: bytes, packet: Packet) -> Kept:
    ts, ifindex, start, stop = packet
    return Kept(window[start:stop], ts, ifindex)


@pytest.fixture(params=[False, sys.byteorder == "little"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "_BYTEWISE", request.param)


@pytest.mark.usefixtures("_both_ways")
def test_every_packet_comes_once_and_as_it_was() -> None:
    sizes = [0, 1, 40, 1500, 65_549, 3, WINDOW - 82, 9000, WINDOW - 81, *[700] * 300, 65_549, 5]
    packets = [
        Kept(bytes([number % 251]) * size, 1_795_000_000 * SECOND + number * 999_999_937, number % 3)
        for number, size in enumerate(sizes)
    ]
    found, portions, cut = taken(block(packets))
    assert found == packets
    assert cut == 0
    assert max(portions) > 50, "many at a time"
    assert len(portions) > 5, "and not all at once"


@pytest.mark.usefixtures("_both_ways")
def test_what_the_kernel_cut_is_counted() -> None:
    found, _, cut = taken(block([Kept(b"a"), Kept(b"b", length=2), Kept(b"c", length=70_000)]))
    assert [packet.data for packet in found] == [b"a", b"b", b"c"]
    assert cut == 2


def test_an_empty_block() -> None:
    assert taken(block([])) == ([], [], 0)
