"""What a capture file tells of its interfaces: what was lost on them, and whether one is a lo."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from tapper_wire import Wire

from tapper.capture.file import CaptureFile
from tapper.cli import main
from tapper.output import pcapng
from tapper.output.records import Stat

TS = 1_700_000_000_123_456_000
REDIRECTED = ((("10.0.0.2", 5000), ("127.0.0.1", 15001)), (("10.96.0.10", 80), ("10.0.0.2", 5000)))
DELIVERED = ((("127.0.0.6", 5001), ("10.0.0.2", 8080)), (("10.0.0.2", 8080), ("127.0.0.6", 5001)))


def packets(number: int, target: str, up: Any = DELIVERED[0], down: Any = None, isn: int = 1000) -> bytes:
    wire = Wire(up, down, isn, isn + 700_000)
    frames = [*wire.handshake(), *wire.exchange(target, "body"), *wire.close()]
    return b"".join(pcapng.packet(number, TS, frame) for frame in frames)


def tap(tmp_path: Path, file: bytes, *arguments: str) -> list[dict[str, Any]]:
    source, output = tmp_path / "in", tmp_path / "out"
    source.write_bytes(file)
    assert main(["tap", "-r", str(source), "-w", str(output), "-o", "ndjson", *arguments]) == 0
    return [json.loads(line) for line in output.read_text().splitlines()]


def stats(records: list[dict[str, Any]]) -> dict[str | None, tuple[int, int]]:
    return {
        it.get("instance_ip") or it.get("interface"): (it["received"], it["dropped"])
        for it in records
        if it["type"] == "stat"
    }


def test_what_the_file_says_was_lost_is_reported(tmp_path: Path) -> None:
    """The latest statistics count; an interface of which every packet was lost is one, too; a non-target's is not."""
    file = pcapng.section_header("t")
    for name in ("10.0.0.2 lo", "eth0", "eth1", "eth2", "10.0.0.3 lo"):
        file += pcapng.interface(name, "")
    file += packets(0, "/a")
    file += pcapng.statistics(0, TS, Stat(8, 3)) + pcapng.statistics(0, TS, Stat(9, 5))
    file += pcapng.statistics(1, TS, Stat(0, 7)) + pcapng.statistics(2, TS, Stat(0, 0))
    file += pcapng.statistics(4, TS, Stat(0, 99))
    records = tap(tmp_path, file, "--filter-authorities", "10.0.0.2")
    assert stats(records) == {"10.0.0.2": (9, 5), "eth0": (0, 7), None: (9, 12)}
    assert records[-1]["dropped"] == 12


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_kinds_of_loss_and_two_sections_add_up(order: str) -> None:
    def block(kind: int, body: bytes) -> bytes:
        length = struct.pack(f"{order}I", len(body) + 12)
        return struct.pack(f"{order}I", kind) + length + body + length

    def option(code: int, value: int) -> bytes:
        return struct.pack(f"{order}HHQ", code, 8, value)

    section = block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))
    section += block(1, struct.pack(f"{order}HHI", 101, 0, 0) + struct.pack(f"{order}HH4s", 2, 4, b"eth0"))
    lost = option(4, 1000) + option(5, 3) + option(7, 4) + struct.pack(f"{order}HHH2x", 5, 2, 9)
    section += block(5, struct.pack(f"{order}III", 0, 0, 0) + lost)
    file = CaptureFile(io.BytesIO(section * 2), "x")
    assert list(file.packets()) == []
    assert file.dropped == {"eth0": 14}


def test_statistics_of_no_interface_are_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(pcapng.section_header("t") + pcapng.statistics(0, TS, Stat(1, 1)))
    assert main(["tap", "-r", str(path)]) == 5
    assert "a statistics block contradicts itself" in capsys.readouterr().err


def test_from_file_to_file_the_loss_goes_along(tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    head = pcapng.section_header("t") + pcapng.interface("10.0.0.2 lo", "")
    source.write_bytes(head + packets(0, "/a") + pcapng.statistics(0, TS, Stat(9, 5)))
    assert main(["tap", "-r", str(source), "-o", "pcapng", "--no-redact", "-w", str(copy)]) == 0
    assert stats(tap(tmp_path, copy.read_bytes()))["10.0.0.2"] == (9, 5)


@pytest.mark.parametrize(
    "names", [("eth0", "eth0"), ("", "all"), ("10.0.0.2 lo", "10.0.0.2 lo"), ("fd00::2 lo", "fd00:0::2 lo")]
)
def test_two_interfaces_of_one_name_are_one_source(tmp_path: Path, names: tuple[str, str]) -> None:
    """Also where the names differ and mean the same. The copy has one interface, and both packets."""
    source, copy = tmp_path / "source", tmp_path / "copy"
    file = pcapng.section_header("t") + b"".join(pcapng.interface(name, "") for name in names)
    file += packets(0, "/a") + packets(1, "/b", (("10.0.0.9", 4000), ("10.0.0.2", 8080)), isn=5_000_000)
    file += pcapng.statistics(0, TS, Stat(9, 5)) + pcapng.statistics(1, TS, Stat(9, 2))
    source.write_bytes(file)
    assert main(["tap", "-r", str(source), "-o", "pcapng", "--no-redact", "-w", str(copy)]) == 0
    for written in (file, copy.read_bytes()):
        records = tap(tmp_path, written)
        assert [it["target"] for it in records if it["type"] == "http"] == ["/a", "/b"]
        assert [it["dropped"] for it in records if it["type"] == "stat"] == [7, 7]
    assert len({packet.interface for packet in CaptureFile(io.BytesIO(copy.read_bytes()), "x").packets()}) == 1


def test_the_name_of_an_interface_is_bounded(tmp_path: Path) -> None:
    """Whatever bytes it has: the copy has to hold it in a field of 65,535 bytes."""
    source, copy = tmp_path / "source", tmp_path / "copy"
    name = b"\xff" * 30_000
    body = struct.pack("<HHI", 101, 0, 0) + struct.pack("<HH", 2, len(name)) + name
    body += struct.pack("<HHBxxx", 9, 1, 9) + bytes(4)  # times are nanoseconds
    block = struct.pack("<II", 1, len(body) + 12) + body + struct.pack("<I", len(body) + 12)
    source.write_bytes(pcapng.section_header("t") + block + packets(0, "/a"))
    assert main(["tap", "-r", str(source), "-o", "pcapng", "--no-redact", "-w", str(copy)]) == 0
    (record,) = [it for it in tap(tmp_path, source.read_bytes()) if it["type"] == "http"]
    assert record["target"] == "/a"
    (shown,) = {packet.interface for packet in CaptureFile(io.BytesIO(copy.read_bytes()), "x").packets()}
    assert len(shown) < 300


def test_the_names_of_interfaces_are_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is a source, and a file may have any number of sections."""
    source, output = tmp_path / "source", tmp_path / "output"
    sections = [
        pcapng.section_header("t")
        + b"".join(pcapng.interface(f"eth{number}", "") for number in range(start, start + 3000))
        + b"".join(pcapng.packet(number, TS, b"\x45") for number in range(3000))
        for start in (0, 3000)
    ]
    source.write_bytes(b"".join(sections))
    assert main(["tap", "-r", str(source), "-w", str(output), "-o", "ndjson"]) == 5
    assert "more than 4096 names of interfaces are damage" in capsys.readouterr().err
    assert json.loads(output.read_text().splitlines()[-1])["received"] == 4096


@pytest.mark.parametrize("names", [("eth0", "eth1"), ("eth0", "")])
@pytest.mark.parametrize("crossing", ["alternating", "both", "both, with both ends translated"])
def test_a_connection_may_cross_several_interfaces(tmp_path: Path, names: tuple[str, str], crossing: str) -> None:
    """Packet by packet, as a bond of two links takes them; or each packet crosses both, as a veth and a bridge."""
    wires = [Wire((("10.0.0.9", 4000), ("10.0.0.2", 8080))) for _ in names]
    if crossing.endswith("translated"):
        wires[1] = Wire((("192.168.0.1", 5000), ("10.0.0.3", 9090)))
    frames = [[*wire.handshake(), *wire.exchange("/a", "body"), *wire.close()] for wire in wires]
    file = pcapng.section_header("t") + b"".join(pcapng.interface(name, "") for name in names)
    for at, pair in enumerate(zip(*frames, strict=True)):
        chosen = [at % 2] if crossing == "alternating" else [0, 1]
        file += b"".join(pcapng.packet(number, TS + at, pair[number]) for number in chosen)
    records = tap(tmp_path, file)
    assert [(it["target"], it["status"]) for it in records if it["type"] == "http"] == [("/a", 200)]
    received = [it["received"] for it in records if it["type"] == "stat" and "interface" in it]
    assert received == ([5, 4] if crossing == "alternating" else [9, 9])


@pytest.mark.parametrize(
    ("name", "paired"), [("lo", True), ("shop lo", True), ("eth0", False), ("", False), ("hello", False)]
)
def test_redirected_halves_are_paired_on_any_lo(tmp_path: Path, name: str, paired: bool) -> None:
    """The pod is who called, or who was called, although nothing names it."""
    file = pcapng.section_header("t") + pcapng.interface(name, "")
    file += packets(0, "/out", *REDIRECTED) + packets(0, "/in", *DELIVERED, isn=5_000_000)
    seen = [
        (it["pod_ip"], it["direction"], it["dst"], it["target"], it["status"])
        for it in tap(tmp_path, file)
        if it["type"] == "http"
    ]
    whole = [
        ("10.0.0.2", "outbound", "10.96.0.10:80", "/out", 200),
        ("10.0.0.2", "inbound", "10.0.0.2:8080", "/in", 200),
    ]
    assert (seen == whole) == paired
    assert ("/in", 200) in [it[3:] for it in seen], "the canary"


def test_on_a_lo_a_target_is_whose_it_is(tmp_path: Path) -> None:
    """Not whom it calls: the exchange is another pod's, although its reply comes from the target."""
    called = ((("10.0.0.2", 5000), ("127.0.0.1", 15001)), (("10.0.0.9", 80), ("10.0.0.2", 5000)))
    file = pcapng.section_header("t") + pcapng.interface("lo", "") + packets(0, "/out", *called)
    file += packets(0, "/in", *DELIVERED)

    def seen(target: str) -> list[str]:
        return [it["target"] for it in tap(tmp_path, file, "--filter-authorities", target) if it["type"] == "http"]

    assert seen("10.0.0.9") == []
    assert seen("10.0.0.2") == ["/out", "/in"]
