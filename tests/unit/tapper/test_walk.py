"""The packets of a ring's block, as the kernel lays them."""

from __future__ import annotations

import mmap
import struct
import sys
from dataclasses import dataclass

import pytest

from harness.mesh import replay
from tapper.capture import walk
from tapper.capture.walk import WINDOW, Block
from tapper.streams.packet import Packet

BASE = 4096
SECOND = 1_000_000_000
NOT_READY, VALID = 8, 128  # TP_STATUS_CSUMNOTREADY, TP_STATUS_CSUM_VALID: linux/if_packet.h


@dataclass(frozen=True)
class Kept:
    """A packet of the block."""

    data: bytes
    ts: int = 0
    ifindex: int = 1
    length: int | None = None
    """How long it was on the wire, where that is more."""
    status: int = 1 | NOT_READY


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
        header = struct.pack(
            "=IIIIIIHH", step, seconds, nanoseconds, len(packet.data), length, packet.status, start, start
        )
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


@pytest.mark.parametrize("source", ["127.0.0.6", "::6"])
@pytest.mark.parametrize("length", [0, 1, 1001])
def test_a_packet_with_a_wrong_checksum_is_left_out_and_counted(source: str, length: int) -> None:
    """Wherever a byte is wrong. The packets before and behind stay."""
    target = "10.0.0.1" if "." in source else "fd00::1"
    tcp = struct.pack("!HHIIBBHHH", 40001, 8080, 1, 1, 5 << 4, 0x18, 512, 0, 0)
    right = replay.packet(source, target, tcp + b"p" * length)[14:]  # behind the Ethernet header
    for at in (len(right) - 1, len(right) - length - 4, 12, 20):
        wrong = right[:at] + bytes([right[at] ^ 1]) + right[at + 1 :]
        memory = block([Kept(right, status=1), Kept(wrong, status=1), Kept(right, status=1)])
        whole, found = Block(memory, BASE), []
        while whole.left:
            window, packets = whole.take()
            found += [kept(window, packet).data for packet in packets]
        assert found == [right, right]
        assert (whole.bad_checksum, whole.count) == (1, 3)


@pytest.mark.parametrize("status", [1 | NOT_READY, 1 | VALID])
def test_a_checksum_that_the_receiver_does_not_look_at_is_not_looked_at(status: int) -> None:
    tcp = struct.pack("!HHIIBBHHH", 40001, 8080, 1, 1, 5 << 4, 0x18, 512, 0, 0)
    wrong = replay.packet("127.0.0.6", "10.0.0.1", tcp)[14:-1] + b"\xff"
    assert [packet.data for packet in taken(block([Kept(wrong, status=status)]))[0]] == [wrong]


@pytest.mark.parametrize("data", [b"", b"\x45", b"\x45" + bytes(18), b"\x60" + bytes(30), bytes(60), b"\xff" * 60])
def test_no_tcp_packet_is_left_alone(data: bytes) -> None:
    assert [packet.data for packet in taken(block([Kept(data, status=1)]))[0]] == [data]
