"""When what was read from a file is written: in large pieces, and never later than the next wait for more."""

from __future__ import annotations

import io
import select
import subprocess
import sys

import pytest
from tapper_wire import Wire, get, ok

from tapper.capture.file import CaptureFile
from tapper.errors import TapperError
from tapper.output import pcapng, sink
from tapper.output.sink import Sink

DEADLINE_S = 30
TS = 1_700_000_000_000_000_000


def capture(paths: list[str]) -> bytes:
    """A pcapng file of one connection without an end, a request for each path."""
    wire = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
    packets = wire.handshake()
    for path in paths:
        packets += [wire.ask(get(path)), wire.answer(ok("hello"))]
    file = pcapng.section_header("t") + pcapng.interface("eth0", "")
    return file + b"".join(pcapng.packet(0, TS, packet) for packet in packets)


def test_an_exchange_is_written_although_the_pipe_stays_open() -> None:
    argv = [sys.executable, "-m", "tapper", "tap", "-r", "-", "-o", "ndjson"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(capture(["/a", "/b"]))
        process.stdin.flush()
        said = b""
        try:
            while said.count(b'"type":"http"') < 2:
                ready, _, _ = select.select([process.stdout], [], [], DEADLINE_S)
                assert ready, f"{said!r} is all that was written before the file's end"
                piece = process.stdout.read1(65536)  # type: ignore[attr-defined]
                assert piece, said
                said += piece
        finally:
            process.stdin.close()
        assert b'"type":"bye"' in process.stdout.read()


def test_what_was_read_is_told_before_more_is_waited_for() -> None:
    file = capture(["/a"])
    found: list[int] = []
    told: list[int] = []

    class Pipe(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            return super().read1(min(size or 0, 200))

    for _ in CaptureFile(Pipe(file), "x", lambda: told.append(len(found))).packets():
        found.append(1)
    assert len(found) == 5
    assert told[-1] == 5, "before it was seen that this is the end"
    assert len(told) > len(file) // 200


class Disk(io.RawIOBase):
    """Takes so many bytes at once, and so many in all."""

    def __init__(self, at_once: int, room: int) -> None:
        super().__init__()
        self.at_once = at_once
        self.room = room
        self.pieces: list[bytes] = []

    def write(self, data: bytes | memoryview, /) -> int:  # type: ignore[override]
        taken = bytes(data[: min(self.at_once, self.room)])
        if not taken:
            raise OSError(28, "No space left on device")
        self.pieces.append(taken)
        self.room -= len(taken)
        return len(taken)


def test_gathered_records_are_one_piece() -> None:
    disk = Disk(1 << 20, 1 << 20)
    output = Sink(disk)  # type: ignore[arg-type]
    output.write("a")
    output.gather()
    output.write("b")
    output.write("c")
    assert disk.pieces == [b"a"]
    output.flush()
    output.flush()
    assert disk.pieces == [b"a", b"bc"]


def test_no_more_is_gathered_than_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "_MOST_GATHERED", 4)
    disk = Disk(1 << 20, 1 << 20)
    output = Sink(disk)  # type: ignore[arg-type]
    output.gather()
    for text in ("ab", "cd", "ef"):
        output.write(text)
    assert disk.pieces == [b"abcdef"]


def test_a_disk_that_takes_a_part_gets_the_rest_and_a_full_one_is_said() -> None:
    disk = Disk(3, 10)
    output = Sink(disk)  # type: ignore[arg-type]
    output.write("abcdefgh")
    assert b"".join(disk.pieces) == b"abcdefgh"
    with pytest.raises(TapperError, match="cannot write the output"):
        output.write("12345")
