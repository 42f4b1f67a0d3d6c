"""Capture files: written by scapy or by hand, read by the tapper; and what it makes of damage."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.utils import PcapNgWriter, PcapWriter
from tapper_wire import Wire

from tapper.capture.file import CaptureFile
from tapper.capture.link import ETHERNET, LINUX_SLL, LINUX_SLL2, LOOP, MPLS, NULL, PPI, PPP, RAW
from tapper.cli import main
from tapper.errors import CaptureFileError
from tapper.output import pcapng

Flow = tuple[tuple[str, int], tuple[str, int]]
CALL: Flow = (("10.0.0.3", 40000), ("10.0.0.2", 8080))
TS = 1_700_000_000_123_456_000


def conversation_of(targets: list[str], up: Flow = CALL, down: Flow | None = None) -> list[bytes]:
    wire = Wire(up, down)
    packets = wire.handshake()
    for target in targets:
        packets += wire.exchange(target, "body")
    return [*packets, *wire.close()]


FRAMES: dict[int, Callable[[bytes], bytes]] = {
    NULL: lambda ip: struct.pack("<I", 2) + ip,
    LOOP: lambda ip: struct.pack(">I", 30) + ip,
    RAW: lambda ip: ip,
    ETHERNET: lambda ip: bytes(12) + b"\x08\x00" + ip,
    LINUX_SLL: lambda ip: struct.pack(">HHHQH", 0, 1, 6, 0, 0x0800) + ip,
    LINUX_SLL2: lambda ip: struct.pack(">HHIHBBQ", 0x0800, 0, 3, 1, 0, 6, 0) + ip,
    12: lambda ip: ip,  # raw IP on BSD
    14: lambda ip: ip,  # raw IP on OpenBSD
    PPI: lambda ip: struct.pack("<BBHI", 0, 0, 12, ETHERNET) + bytes(4) + bytes(12) + b"\x08\x00" + ip,
    PPP: lambda ip: b"\xff\x03\x00\x21" + ip,
    MPLS: lambda ip: b"\x00\x01\x00\x40\x00\x01\x01\x40" + ip,
    0x0400_0000 | ETHERNET: lambda ip: bytes(12) + b"\x08\x00" + ip,  # with the length of a frame check sequence
}


def pcap(frames: list[bytes], link: int = RAW, order: str = "<", magic: int = 0xA1B2C3D4) -> bytes:
    units = 1000 if magic == 0xA1B2C3D4 else 1
    file = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 262144, link)
    for frame in frames:
        head = (TS // 1_000_000_000, TS % 1_000_000_000 // units, len(frame), len(frame))
        file += struct.pack(f"{order}IIII", *head) + frame
    return file


def read(file: bytes) -> list[bytes]:
    return [packet.data for packet in CaptureFile(io.BytesIO(file), "x").packets()]


@pytest.mark.parametrize("link", sorted(FRAMES))
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_link_type(link: int, order: str) -> None:
    packets = conversation_of(["/"])
    assert read(pcap([FRAMES[link](raw) for raw in packets], link, order)) == packets


@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D])
def test_times_of_pcap(magic: int) -> None:
    (packet,) = CaptureFile(io.BytesIO(pcap(conversation_of([])[:1], magic=magic)), "x").packets()
    assert packet.ts == TS
    assert not packet.cut


def test_what_scapy_writes(tmp_path: Path) -> None:
    packets = conversation_of(["/a"])
    with PcapWriter(str(tmp_path / "pcap"), linktype=1) as writer:
        for raw in packets:
            writer.write(Ether() / Dot1Q(vlan=3) / IP(raw))
    with PcapNgWriter(str(tmp_path / "pcapng")) as writer:
        for raw in packets:
            writer.write(Ether() / IP(raw))
    for name in ("pcap", "pcapng"):
        assert read((tmp_path / name).read_bytes()) == packets, name


def test_the_second_copy_of_a_loopback_frame_is_left_out() -> None:
    (raw,) = conversation_of([])[:1]
    for link, form in ((LINUX_SLL, ">HHHQH"), (LINUX_SLL2, ">HHIHBBQ")):

        def head(packet_type: int, hardware: int, link: int = link, form: str = form) -> bytes:
            if link == LINUX_SLL:
                return struct.pack(form, packet_type, hardware, 6, 0, 0x0800)
            return struct.pack(form, 0x0800, 0, 1, hardware, packet_type, 6, 0)

        assert len(read(pcap([head(4, 772) + raw, head(0, 772) + raw], link))) == 1
        assert len(read(pcap([head(4, 1) + raw], link))) == 1, "elsewhere it is half of the traffic"


def test_what_is_not_ip_comes_out_by_its_name() -> None:
    (raw,) = conversation_of([])[:1]
    arp = bytes(12) + b"\x08\x06" + bytes(28)
    file = pcap([arp, b"", bytes(13), FRAMES[ETHERNET](b"\x00"), FRAMES[ETHERNET](raw)], ETHERNET)
    found = [(packet.data, packet.other) for packet in CaptureFile(io.BytesIO(file), "x").packets()]
    damaged = (b"", "damaged headers")
    assert found == [(b"", "ARP"), damaged, damaged, (b"", "other than IP"), (raw, "")]


def block(order: str, kind: int, body: bytes) -> bytes:
    length = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + length + body + length


def section(order: str) -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4)


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_of_others(order: str) -> None:
    """Both byte orders, sections, resolutions, offsets, simple and obsolete packets, blocks that are skipped."""
    (raw,) = conversation_of([])[:1]
    frame = raw + bytes(-len(raw) % 4)

    def interface(*options: bytes) -> bytes:
        return block(order, 1, struct.pack(f"{order}HHI", RAW, 0, 0) + b"".join(options))

    def enhanced(number: int, units: int, length: int = len(raw)) -> bytes:
        head = struct.pack(f"{order}IIIII", number, units >> 32, units & 0xFFFFFFFF, len(raw), length)
        return block(order, 6, head + frame)

    file = section(order) + interface(option(order, 2, b"eth0\0"))
    file += interface(option(order, 9, b"\x83"), option(order, 14, struct.pack(f"{order}q", 7)))
    file += block(order, 0x0BAD, b"what") + enhanced(0, 5) + enhanced(1, 12, 9999)
    file += block(order, 3, struct.pack(f"{order}I", len(raw)) + frame)
    file += block(order, 2, struct.pack(f"{order}HHIIII", 0, 0, 0, 6, len(raw), len(raw)) + frame)
    other = ">" if order == "<" else "<"
    file += section(other) + block(other, 1, struct.pack(f"{other}HHI", RAW, 0, 0))
    found = list(CaptureFile(io.BytesIO(file), "x").packets())
    assert [packet.data for packet in found] == [raw] * 4
    assert [packet.ts for packet in found] == [5_000, 8_500_000_000, 8_500_000_000, 6_000]
    assert [packet.interface for packet in found] == ["eth0", "", "eth0", "eth0"]
    assert [packet.cut for packet in found] == [False, True, False, False]


def test_a_link_type_that_nobody_knows_is_named() -> None:
    file = CaptureFile(io.BytesIO(pcap([b"abcd", b"efgh"], 147)), "x")
    assert [packet.other for packet in file.packets()] == ["link type 147"] * 2


# -- damage ------------------------------------------------------------------------------------------------------------


def read_damaged(file: bytes) -> tuple[list[bytes], str | None]:
    """What there was, and the complaint."""
    found: list[bytes] = []
    try:
        for packet in CaptureFile(io.BytesIO(file), "x").packets():
            found.append(packet.data)
    except CaptureFileError as error:
        return found, str(error)
    return found, None


def ours() -> bytes:
    file = pcapng.section_header("t") + pcapng.interface("eth0", "")
    return file + b"".join(pcapng.packet(0, TS, raw) for raw in conversation_of(["/a"]))


@pytest.mark.parametrize("whole", [ours(), pcap(conversation_of(["/a"]))], ids=["pcapng", "pcap"])
def test_wherever_a_file_ends_what_came_before_is_kept(whole: bytes) -> None:
    complete = read(whole)
    assert len(complete) == 9
    counts = []
    for length in range(len(whole)):
        found, complaint = read_damaged(whole[:length])
        assert complaint is None or complaint.startswith("x: the file ")
        assert found == complete[: len(found)]
        counts.append(len(found))
    assert counts == sorted(counts)
    assert counts[-1] == 8


@given(st.binary(max_size=400), st.integers(0, 1), st.integers(0, 500))
def test_no_bytes_raise_anything_else(noise: bytes, kind: int, at: int) -> None:
    """Noise alone, and a good file with noise in it: packets or one sentence."""
    good = (ours(), pcap(conversation_of(["/a"])))[kind]
    for file in (noise, good[:at] + noise + good[at + len(noise) :]):
        _, complaint = read_damaged(file)
        assert "\n" not in (complaint or "")


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (b"", "the file is empty"),
        (b"ab", "the file is no capture"),
        (b"%PDF-1.7", "the file is neither pcap nor pcapng"),
        (pcap([]) + struct.pack("<IIII", 0, 0, 1 << 30, 1 << 30), "a packet of 1073741824 bytes is damage"),
        (section("<") + struct.pack("<II", 6, 1 << 30), "a block of 1073741824 bytes is damage"),
        (section("<") + struct.pack("<II", 6, 8), "a block of 8 bytes is damage"),
        (section("<") + struct.pack("<III", 6, 12, 16), "the two lengths of a block differ"),
        (section("<") + pcapng.packet(0, TS, b"E" * 40), "a packet block contradicts itself"),
        (
            section("<")
            + pcapng.interface("a", "")
            + block("<", 6, struct.pack("<IIIII", 0, 0, 0, 41, 41) + bytes(40)),
            "a packet block contradicts itself",
        ),
        (section("<") + block("<", 1, b""), "a block is too short for its type"),
        (section("<")[:8] + bytes(20), "a section header has no byte order"),
    ],
)
def test_damage_is_a_sentence(file: bytes, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(file)
    assert main(["tap", "-r", str(path)]) == 5
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith(f"tapper: {path}: {sentence}"), last


# -- through the same streams and protocols ----------------------------------------------------------------------------


def tap(file: bytes, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """`tapper tap -r - -o ndjson` in a process of its own."""
    argv = [sys.executable, "-m", "tapper", "tap", "-r", "-", "-o", "ndjson", *arguments]
    done = subprocess.run(argv, input=file, capture_output=True, check=False)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


def targets(records: list[dict[str, Any]]) -> list[str]:
    return [record["target"] for record in records if record["type"] == "http"]


def test_a_file_becomes_exchanges() -> None:
    code, records, said = tap(pcap(conversation_of(["/a", "/b"])))
    assert (code, targets(records)) == (0, ["/a", "/b"])
    assert [record["type"] for record in records] == [
        "hello",
        "source",
        "http",
        "http",
        "source",
        "stat",
        "stat",
        "bye",
    ]
    assert (records[1]["kind"], records[1]["netns"]) == ("file", None)
    assert "2 exchanges from 1 source; 12 packets received" in said


def test_targets_and_filters_hold_for_files_too() -> None:
    others = conversation_of(["/theirs"], (("10.0.0.30", 1), ("10.0.0.20", 80)))
    file = pcap([*others, *conversation_of(["/ours", "/more"])])
    assert targets(tap(file)[1]) == ["/theirs", "/ours", "/more"]
    assert targets(tap(file, "--filter-authorities", "10.0.0.2")[1]) == ["/ours", "/more"]
    assert targets(tap(file, "--path", "/o")[1]) == ["/ours"]


def test_an_interface_named_after_a_pod_is_its_lo() -> None:
    """The asymmetric leg pairs there; two pods' equal addresses stay apart; a pod that is no target stays out."""
    redirected = ((("10.0.0.2", 5000), ("127.0.0.1", 15001)), (("10.96.0.10", 80), ("10.0.0.2", 5000)))
    file = pcapng.section_header("t") + pcapng.interface("10.0.0.2 lo", "") + pcapng.interface("10.0.0.3 lo", "")
    same = (("127.0.0.1", 1), ("127.0.0.1", 80))
    file += b"".join(pcapng.packet(0, TS, raw) for raw in conversation_of(["/out"], *redirected))
    first, second = conversation_of(["/one"], same), conversation_of(["/two"], same)
    for one, two in zip(first, second, strict=True):
        file += pcapng.packet(0, TS, one) + pcapng.packet(1, TS, two)
    _, records, _ = tap(file)
    seen = [(it["pod_ip"], it["direction"], it["dst"], it["target"]) for it in records if it["type"] == "http"]
    assert seen == [
        ("10.0.0.2", "outbound", "10.96.0.10:80", "/out"),
        ("10.0.0.2", "inbound", "127.0.0.1:80", "/one"),
        ("10.0.0.3", "inbound", "127.0.0.1:80", "/two"),
    ]
    assert targets(tap(file, "--filter-authorities", "10.0.0.3")[1]) == ["/two"]


def test_a_damaged_file_still_gives_what_came_before() -> None:
    code, records, said = tap(pcap(conversation_of(["/a"]))[:-3])
    assert (code, targets(records), records[-1]["type"]) == (5, ["/a"], "bye")
    assert said.splitlines()[-1].startswith("tapper: -: the file ends within a packet")


def test_what_cannot_be_read_is_said() -> None:
    code, records, said = tap(pcap([b"abcd", b"efgh"], 147))
    assert (code, targets(records)) == (0, [])
    assert "tapper: packets that were not looked into: 2 of link type 147" in said.splitlines()


def test_from_file_to_file(tmp_path: Path) -> None:
    """pcapng out of pcap, and once more out of that: the packets stay what they were."""
    once, twice = tmp_path / "once", tmp_path / "twice"
    packets = conversation_of(["/a"])
    source = tmp_path / "source"
    source.write_bytes(pcap([FRAMES[ETHERNET](raw) for raw in packets], ETHERNET))
    assert main(["tap", "-r", str(source), "-o", "pcapng", "--no-redact", "-w", str(once)]) == 0
    assert main(["tap", "-r", str(once), "-o", "pcapng", "--no-redact", "-w", str(twice)]) == 0
    assert read(once.read_bytes()) == read(twice.read_bytes()) == packets
    before = twice.read_bytes()
    assert main(["tap", "-r", str(twice), "-w", str(twice)]) == 2
    assert twice.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-r", "/nowhere/x"], "cannot read /nowhere/x: no such file"),
        (["-r", "/dev/null", "--istio"], "leave out --istio, -i, --targets-file and pods of Kubernetes"),
        (["-r", "/dev/null", "-i", "eth0"], "leave out --istio, -i, --targets-file and pods of Kubernetes"),
    ],
)
def test_usage(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tap", *arguments]) == 2
    assert sentence in capsys.readouterr().err
