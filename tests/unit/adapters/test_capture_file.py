"""pcap and pcapng: every kind of packet is read, damage is told with its place, and a growing file is no damage."""

from __future__ import annotations

import struct

import pytest

from harness.adapters import capture_file
from harness.adapters.capture_file import Damaged, Record
from harness.adapters.packets import Capture, exchanges
from harness.conformance import truth
from harness.mesh import replay

ETHERNET = 1
DATA = bytes(range(60))


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def interface(snap_length: int = 0, options: bytes = b"", order: str = "<") -> bytes:
    return block(1, struct.pack(order + "HHI", ETHERNET, 0, snap_length) + options, order)


def enhanced(data: bytes, ticks: int, number: int = 0, order: str = "<", length: int | None = None) -> bytes:
    head = struct.pack(order + "5I", number, ticks >> 32, ticks & 0xFFFFFFFF, len(data), length or len(data))
    return block(6, head + data + bytes(-len(data) % 4), order)


def simple(data: bytes, length: int | None = None) -> bytes:
    return block(3, struct.pack("<I", length or len(data)) + data)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_pcap(order: str, magic: int, unit: int) -> None:
    head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, 0x5000_0000 | ETHERNET)
    content = head + struct.pack(order + "4I", 7, 9, len(DATA), 100) + DATA
    assert list(capture_file.records(content)) == [Record(7 * 10**9 + 9 * unit, None, ETHERNET, 100, DATA)]
    assert capture_file.whole(content)
    for cut in range(1, len(content)):
        assert list(capture_file.records(content[:cut])) == []
        assert not capture_file.whole(content[:cut]) or cut == len(head)


@pytest.mark.parametrize("order", "<>")
def test_pcapng_with_names_and_times(order: str) -> None:
    nanoseconds = option(2, b"lo@10.244.0.2", order) + option(9, b"\x09", order) + option(0, b"", order)
    binary = option(9, bytes([0x80 | 10]), order) + option(14, struct.pack(order + "q", 100), order)
    content = section(order) + interface(0, nanoseconds, order) + interface(0, binary, order) + interface(order=order)
    content += enhanced(DATA, 1 << 40, 0, order) + enhanced(DATA, 1024, 1, order) + enhanced(DATA, 3, 2, order, 90)
    first, second, third = capture_file.records(content)
    assert first == Record(1 << 40, "lo@10.244.0.2", ETHERNET, 60, DATA)
    assert second.time_ns == 101 * 10**9
    assert (third.time_ns, third.interface, third.length) == (3000, None, 90)
    assert capture_file.whole(content)


def test_simple_packets_have_no_time_and_are_cut_by_the_snap_length_only() -> None:
    whole = section() + interface(0) + simple(DATA)
    assert list(capture_file.records(whole)) == [Record(None, None, ETHERNET, 60, DATA)]
    cut = section() + interface(20) + simple(DATA[:20], length=60)
    assert list(capture_file.records(cut)) == [Record(None, None, ETHERNET, 60, DATA[:20])]


def test_obsolete_packets_other_blocks_and_further_sections() -> None:
    old = block(2, struct.pack("<HH4I", 0, 0, 0, 5, len(DATA), len(DATA)) + DATA)
    content = section() + block(0x0BAD, b"unknown") + interface() + old + section(">") + interface(order=">")
    content += enhanced(DATA, 8, order=">")
    assert [each.time_ns for each in capture_file.records(content)] == [5000, 8000]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"GIF89a", r"begins with b'GIF8', which is neither"),
        (section() + struct.pack("<II", 6, 14) + bytes(20), r"at byte 28 a block of 14 bytes begins"),
        (section() + enhanced(DATA, 0), r"block of type 6 that ends at byte 120 is too short, or of no interface"),
        (section() + interface() + block(6, bytes(8)), r"is too short, or of no interface"),
        (section() + interface() + enhanced(DATA, 0)[:-4] + bytes(4), r"ends with another length"),
        (struct.pack("<I", 0x0A0D0D0A) + bytes(20), r"has no byte order"),
        (struct.pack("<IHHiIII4I", 0xA1B2C3D4, 2, 4, 0, 0, 0, 1, 0, 0, 1 << 30, 0), r"a packet of 1073741824 bytes"),
    ],
)
def test_damage_is_told_with_its_place(content: bytes, reason: str) -> None:
    with pytest.raises(Damaged, match=reason):
        list(capture_file.records(content))


def test_every_cut_of_a_file_that_is_written_is_no_damage() -> None:
    content = section() + interface() + enhanced(DATA, 1) + simple(DATA)
    ends = {0, 28, 28 + 20, 28 + 20 + 92, len(content)}
    for cut in range(len(content) + 1):
        assert len(list(capture_file.records(content[:cut]))) <= 2
        assert capture_file.whole(content[:cut]) == (cut in ends)


def test_a_tapper_that_writes_simple_packets_is_understood() -> None:
    nonce = truth.new_nonce()
    leg = replay.ReplayLeg(("127.0.0.6", 40001), ("10.244.0.2", 8080), ("10.244.0.2", 8080))
    frames = replay.conversation(leg, [(truth.request(nonce), truth.response(nonce))])
    output = Capture()
    output.feed(section() + interface(0) + b"".join(simple(frame) for frame in frames))
    output.finish()
    assert output.problems == []
    (seen,) = exchanges(output.packets())
    assert (seen.target, seen.status, seen.time) == (truth.target_of(nonce), 200, None)
