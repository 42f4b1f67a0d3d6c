"""The files of frames are such that others read."""

from __future__ import annotations

from pathlib import Path

from scapy.utils import RawPcapReader

from harness.sandbox import pcap
from harness.sandbox.frames import Frame


def test_scapy_reads_what_was_written(tmp_path: Path) -> None:
    frames = [Frame(1_700_000_000_000_000_001, b"a" * 60), Frame(1_700_000_000_999_999_999, b"b" * 65_549)]
    pcap.write(tmp_path / "a.pcap", frames)
    with RawPcapReader(str(tmp_path / "a.pcap")) as reader:
        assert (reader.linktype, reader.nano) == (1, True)
        found = [reader._read_packet(1 << 18) for _ in frames]
        told = [Frame(about.sec * 10**9 + about.usec, data) for data, about in found]
    assert told == frames
    assert [about.wirelen for _, about in found] == [60, 65_549]


def test_no_frames_are_a_whole_file(tmp_path: Path) -> None:
    pcap.write(tmp_path / "a.pcap", [])
    with RawPcapReader(str(tmp_path / "a.pcap")) as reader:
        assert list(reader) == []
