"""The pcapng writer, read back by scapy: somebody else's idea of the format."""

from __future__ import annotations

import io
import os
import struct
from ipaddress import ip_address
from pathlib import Path

import pytest
from scapy.utils import RawPcapNgReader
from tapper_wire import Capture, Wire, get, ipv4, ipv6, ok, one_packet, tcp

from tapper.cli import main
from tapper.errors import TapperError
from tapper.output.pcapng import BYTE_ORDER, Recorder, packet, section_header
from tapper.output.records import Place, Stat
from tapper.output.sink import open_output
from tapper.streams.connection import Scope

POD = Place("pod", 4026531999, "lo", 77, "10.0.0.2")
NODE = Place("node", 4026531840, "any")
TS = 1_700_000_000_123_456_789


def blocks(data: bytes) -> list[tuple[int, bytes]]:
    """(type, body) of each block; lengths have to agree and to be multiples of four."""
    found, offset = [], 0
    while offset < len(data):
        kind, length = struct.unpack_from("<II", data, offset)
        assert length % 4 == 0
        assert struct.unpack_from("<I", data, offset + length - 4) == (length,)
        found.append((kind, data[offset + 8 : offset + length - 4]))
        offset += length
    return found


def options(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    offset = 0
    while True:
        code, length = struct.unpack_from("<HH", data, offset)
        if code == 0:
            assert offset + 4 == len(data)
            return found
        found[code] = data[offset + 4 : offset + 4 + length]
        offset += 4 + length + -length % 4


def test_scapy_reads_names_nanoseconds_and_packets() -> None:
    wire = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
    recorder = Recorder("tapper 1")
    node = recorder.record(NODE, Capture(Scope(None, None)).connections)
    pod = recorder.record(POD, Capture(Scope("10.0.0.2", None)).connections)
    raw = [*wire.handshake(), wire.ask(get("/odd")), wire.answer(ok("x"))]
    for index, data in enumerate(raw):
        one_packet(pod if index % 2 else node, TS + index, data)
    read = list(RawPcapNgReader(io.BytesIO(recorder.take())))
    assert [data for data, _ in read] == raw
    for index, (_, told) in enumerate(read):
        assert told.linktype == 101
        assert told.ifname == (b"10.0.0.2 lo" if index % 2 else b"node any")
        assert told.tsresol == 1_000_000_000
        assert (told.tshigh << 32 | told.tslow) == TS + index


def test_the_streams_get_the_packets_too() -> None:
    wire = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
    recording = Recorder("t").record(POD, Capture(Scope("10.0.0.2", None)).connections)
    seen = [it for raw in [*wire.handshake(), *wire.exchange("/a", "b")] for it in one_packet(recording, TS, raw)]
    assert len(seen) == 1
    assert [record for records in recording.finish() for record in records] == []


def test_section_and_statistics() -> None:
    recorder = Recorder("tapper 1")
    recorder.record(NODE, Capture(Scope(None, None)).connections)
    recorder.record(POD, Capture(Scope("10.0.0.2", None)).connections)
    recorder.close(POD, TS, Stat(9, 2))
    (kind, head), first, second, (last, statistics) = blocks(recorder.take())
    assert (kind, *struct.unpack_from("<IHHq", head)) == (0x0A0D0D0A, BYTE_ORDER, 1, 0, -1)
    assert options(head[16:]) == {4: b"tapper 1"}
    assert [first[0], second[0], last] == [1, 1, 5]
    assert options(second[1][8:])[2] == b"10.0.0.2 lo"
    number, high, low = struct.unpack_from("<III", statistics)
    assert (number, high << 32 | low) == (1, TS)
    counts = options(statistics[12:])
    assert (struct.unpack("<Q", counts[4]), struct.unpack("<Q", counts[5])) == ((9,), (2,))
    assert recorder.take() == b"", "taken once"


def test_the_nodes_file_holds_its_targets_only() -> None:
    """The kernel's filter is wider where the list of targets is long."""
    recorder = Recorder("t")
    scope = Scope(None, frozenset({ip_address("10.0.0.2").packed, ip_address("fd00::2").packed}))
    recording = recorder.record(NODE, Capture(scope).connections)
    segment = tcp(1, 2, 3, 4, 0x10)
    theirs = [Wire((("10.0.0.20", 1), ("10.0.0.3", 80))).ask(b"x"), ipv6("fd00::20", "fd00::3", segment)]
    ours = [Wire((("10.0.0.3", 1), ("10.0.0.2", 80))).ask(b"x"), ipv6("fd00::2", "fd00::3", segment)]
    for data in [*theirs, *ours]:
        one_packet(recording, TS, data)
    assert [data for data, _ in RawPcapNgReader(io.BytesIO(recorder.take()))] == ours


def test_of_what_is_not_plain_tcp_the_addresses_inside_count() -> None:
    """Tunnels and fragments go into the file as they are, and no packet of another protocol."""
    recorder = Recorder("t")
    recording = recorder.record(
        NODE, Capture(Scope(None, frozenset({ip_address("10.0.0.2").packed, ip_address("fd00::2").packed}))).connections
    )
    segment = tcp(1, 2, 3, 4, 0x10)
    inside = ipv4("10.0.0.3", "10.0.0.2", segment)
    ours = [
        ipv4("192.0.2.1", "192.0.2.2", inside, protocol=4),
        ipv4("10.0.0.3", "10.0.0.2", segment, fragment=0x2000),
        ipv4("10.0.0.3", "10.0.0.2", segment, fragment=0x0010),
    ]
    theirs = [
        ipv4("10.0.0.2", "192.0.2.2", ipv4("10.0.0.3", "10.0.0.4", segment), protocol=4),
        ipv4("10.0.0.3", "10.0.0.2", segment, protocol=17),
        b"\x45",
    ]
    for data in [*theirs, *ours]:
        one_packet(recording, TS, data)
    assert [data for data, _ in RawPcapNgReader(io.BytesIO(recorder.take()))] == ours


def test_a_cut_packet_says_its_length() -> None:
    whole = Wire((("10.0.0.3", 1), ("10.0.0.2", 80))).ask(b"x" * 100)
    (_, (_, body)) = blocks(section_header("t") + packet(0, TS, whole[:51]))
    assert struct.unpack_from("<II", body, 12) == (51, len(whole))


# -- where it goes -----------------------------------------------------------------------------------------------------


def test_a_file_is_its_owners_alone_even_an_old_one(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    old.write_text("something longer")
    old.chmod(0o666)
    before = os.umask(0)
    try:
        for path in (new, old):
            with open_output(str(path)) as output:
                output.write("x")
    finally:
        os.umask(before)
    for path in (new, old):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_text() == "x"


def test_what_cannot_be_written_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["discover", "-w", str(tmp_path / "no" / "file")]) == 1
    said = capsys.readouterr().err.splitlines()  # perhaps also of Envoys that other tests are running
    assert f"tapper: cannot write to {tmp_path}/no/file: no such file or directory (-w)" in said
    with open_output("/dev/full") as output, pytest.raises(TapperError, match="no space left on device"):
        output.write("x")


@pytest.mark.parametrize("option", ["--method=GET", "--path=/", "--status=200", "--host=a", "--redact=a"])
def test_packets_are_neither_filtered_nor_redacted_and_it_says_so(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "kept"
    path.write_text("kept")
    assert main(["tap", "--filter-authorities", "10.0.0.1", "-o", "pcapng", "-w", str(path), option]) == 2
    assert "-o pcapng writes packets as they were captured" in capsys.readouterr().err
    assert path.read_text() == "kept", "refused before anything is touched"
