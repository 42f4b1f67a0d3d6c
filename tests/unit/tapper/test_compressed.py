"""Capture files in gzip and Zstandard: read as they come, whole or damaged, in bounded memory."""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from tapper_wire import Wire

from tapper.capture.file import CaptureFile
from tapper.cli import main
from tapper.errors import CaptureFileError
from tapper.output import pcapng

TS = 1_700_000_000_123_456_000


def plain(count: int = 1) -> bytes:
    wire = Wire((("10.0.0.3", 40000), ("10.0.0.2", 8080)))
    packets = wire.handshake()
    for number in range(count):
        packets += wire.exchange(f"/{number}", "body")
    head = pcapng.section_header("t") + pcapng.interface("eth0", "")
    return head + b"".join(pcapng.packet(0, TS, raw) for raw in packets)


def zstd(data: bytes) -> bytes:
    found = pytest.importorskip("zstandard", reason="the extra decode is not installed")
    packed: bytes = found.ZstdCompressor().compress(data)
    return packed


def pzstd(data: bytes) -> bytes:
    """As pzstd(1) writes it: each frame follows a skippable one, which holds its size."""
    frames = [zstd(data[:500]), zstd(data[500:])]
    return b"".join(
        struct.pack("<III", 0x184D2A50 + number, 4, len(frame)) + frame for number, frame in enumerate(frames)
    )


PACK = {"gzip": gzip.compress, "zstd": zstd, "pzstd": pzstd}
KINDS = pytest.mark.parametrize("kind", PACK)


def tap(tmp_path: Path, file: bytes) -> tuple[int, list[str]]:
    """The exit code, and the targets."""
    source, output = tmp_path / "in", tmp_path / "out"
    source.write_bytes(file)
    code = main(["tap", "-r", str(source), "-w", str(output), "-o", "ndjson"])
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert records[-1]["type"] == "bye"
    return code, [record["target"] for record in records if record["type"] == "http"]


@KINDS
def test_a_compressed_file_whatever_its_name(tmp_path: Path, kind: str) -> None:
    assert tap(tmp_path, PACK[kind](plain(3))) == (0, ["/0", "/1", "/2"])


@KINDS
def test_several_members_are_one_file(tmp_path: Path, kind: str) -> None:
    whole = plain(3)
    assert tap(tmp_path, PACK[kind](whole[:500]) + PACK[kind](whole[500:])) == (0, ["/0", "/1", "/2"])


@KINDS
def test_from_a_pipe(kind: str) -> None:
    command = [sys.executable, "-m", "tapper", "tap", "-r", "-", "-o", "ndjson"]
    done = subprocess.run(command, input=PACK[kind](plain(2)), capture_output=True, check=True)
    assert b'"target":"/1"' in done.stdout


@KINDS
def test_a_file_that_ends_too_early(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    packed = PACK[kind](plain(2000) + os.urandom(8))
    code, targets = tap(tmp_path, packed[: len(packed) // 2])
    assert code == 5
    assert 0 < len(targets) < 2000
    said = capsys.readouterr().err.splitlines()[-1]
    assert "ends too early" in said or "the file ends within" in said


def test_damaged_gzip_gives_what_came_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = bytearray(gzip.compress(plain(2000)))
    packed[len(packed) // 2 : len(packed) // 2 + 8] = bytes(8)
    code, targets = tap(tmp_path, bytes(packed))
    assert (code, targets[:1]) == (5, ["/0"])
    assert "damage" in capsys.readouterr().err


def test_any_cut_of_gzip_is_one_sentence() -> None:
    packed = gzip.compress(plain(1))
    for size in range(2, len(packed)):
        with pytest.raises(CaptureFileError, match=r"damaged or ends too early|the file is no capture|is empty"):
            list(CaptureFile(io.BytesIO(packed[:size]), "x").packets())


@KINDS
def test_what_is_inside_is_not_decompressed_again(kind: str) -> None:
    with pytest.raises(CaptureFileError, match="neither pcap nor pcapng"):
        list(CaptureFile(io.BytesIO(PACK[kind](PACK[kind](plain()))), "x").packets())


@KINDS
def test_a_bomb_takes_no_memory(tmp_path: Path, kind: str) -> None:
    """A block of an unknown type, 8 MiB long, many times: it is passed over, block by block."""
    length = 8 << 20
    block = struct.pack("<II", 0x0BAD, length) + bytes(length - 12) + struct.pack("<I", length)
    bomb = tmp_path / "bomb"
    bomb.write_bytes(PACK[kind](plain()) + PACK[kind](block) * 40)
    assert bomb.stat().st_size < 1 << 20
    command = [sys.executable, "-m", "tapper", "tap", "-r", str(bomb), "-o", "ndjson"]
    limit = 320 << 20

    def confine() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    done = subprocess.run(command, capture_output=True, check=True, preexec_fn=confine)
    assert b'"target":"/0"' in done.stdout


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python itself reads zstd")
def test_without_the_package_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = zstd(plain())
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert tap(tmp_path, packed) == (6, [])
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith(
        "is compressed with zstd, which needs Python 3.14 or the Python package zstandard: "
        "pip install 'tapper-harness[decode]' (-r)"
    )
