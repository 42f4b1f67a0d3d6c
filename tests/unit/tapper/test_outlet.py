"""Writing to readers that are slow, stand still, or have gone; with pipes and sockets of the kernel."""

from __future__ import annotations

import fcntl
import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tapper.errors import TapperError
from tapper.output import sink
from tapper.output.console import Console
from tapper.output.outlet import Outlet, open_outlet
from tapper.output.sink import Closed, Sink

PIPE = 64 << 10
MOST = 1 << 20


class Pipe:
    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()

    def read(self, count: int) -> bytes:
        read = b""
        while len(read) < count:
            read += os.read(self.reading, count - len(read))
        return read

    def close_reader(self) -> None:
        os.close(self.reading)
        self.reading = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    for descriptor in (pipe.reading, pipe.writing):
        if descriptor >= 0:
            os.close(descriptor)


def opened(descriptor: int, most: int = MOST) -> Outlet:
    outlet = open_outlet(descriptor, most)
    assert outlet is not None
    return outlet


def test_a_full_pipe_keeps_nobody_waiting_and_loses_nothing(pipe: Pipe) -> None:
    outlet = opened(pipe.writing)
    pieces = [bytes([number]) * 10_001 for number in range(20)]
    for piece in pieces:
        outlet.write(piece)
    assert outlet.waiting > 2 * PIPE
    read = b""
    while outlet.waiting:
        read += os.read(pipe.reading, PIPE)
        outlet.go_on()
    assert read + pipe.read(len(pieces) * 10_001 - len(read)) == b"".join(pieces)


def test_other_writers_of_the_pipe_wait_as_before(pipe: Pipe) -> None:
    """O_NONBLOCK would hold for every process that has the same open file description."""
    opened(pipe.writing)
    assert os.get_blocking(pipe.writing)


def test_what_finds_no_room_is_left_out_whole_and_counted(pipe: Pipe) -> None:
    outlet = opened(pipe.writing, 100)
    outlet.write(b"a" * (PIPE + 90))
    outlet.write(b"b" * 11)
    outlet.write(b"c" * 10)
    assert (outlet.waiting, outlet.dropped) == (100, 1)
    assert pipe.read(PIPE) == b"a" * PIPE
    outlet.go_on()
    assert pipe.read(100) == b"a" * 90 + b"c" * 10


def test_a_reader_that_has_gone_is_an_error(pipe: Pipe) -> None:
    outlet = opened(pipe.writing)
    outlet.write(b"a" * (PIPE + 1))
    pipe.close_reader()
    with pytest.raises(BrokenPipeError):
        outlet.go_on()
    with pytest.raises(BrokenPipeError):
        outlet.finish(1, 1)


def test_a_socket_is_written_without_waiting() -> None:
    one, other = socket.socketpair()
    with one, other:
        outlet = opened(one.fileno(), 8 << 20)
        outlet.write(bytes(4 << 20))
        assert outlet.waiting
        assert one.getblocking()
        read = 0
        while read < 4 << 20:
            read += len(other.recv(1 << 20))
            outlet.go_on()
        assert outlet.waiting == 0
        outlet.close()


def test_files_and_descriptors_that_cannot_be_written_have_no_outlet(tmp_path: Path, pipe: Pipe) -> None:
    with (tmp_path / "file").open("wb") as file:
        assert open_outlet(file.fileno(), MOST) is None
    assert open_outlet(pipe.reading, MOST) is None


class Slow:
    """A Sink over a pipe."""

    def __init__(self, pipe: Pipe) -> None:
        self.sink = Sink(io.FileIO(pipe.writing, "wb", closefd=False))
        self.sink.do_not_wait()


def test_an_output_lags_while_much_of_it_is_unread(pipe: Pipe) -> None:
    output = Slow(pipe).sink
    lags: list[bool] = []
    for text in ("a" * (PIPE + (256 << 10)), "b"):
        output.write(text)
        lags.append(output.lags)
    pipe.read(PIPE)
    output.go_on()
    assert [*lags, output.lags] == [False, True, False]
    assert output.waiting


def test_an_output_that_stays_unread_is_an_error_at_the_end(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "_PATIENCE_S", 0.01)
    output = Slow(pipe).sink
    output.write("a" * (PIPE + 17))
    with pytest.raises(TapperError, match="its reader has not taken the last 17 bytes"):
        output.finish()
    pipe.read(PIPE)
    output.finish()


def test_a_reader_that_has_gone_ends_the_output(pipe: Pipe) -> None:
    output = Slow(pipe).sink
    pipe.close_reader()
    with pytest.raises(Closed):
        output.write("a")


def test_messages_that_nobody_reads_keep_nobody_waiting(pipe: Pipe) -> None:
    fcntl.fcntl(pipe.writing, fcntl.F_SETPIPE_SZ, 4096)
    with open(pipe.writing, "w", closefd=False, encoding="utf-8") as stream:
        console = Console(stream)
        console.do_not_wait()
        for number in range(2000):
            console.table([f"line {number} {'x' * 100}"])
        console.finish()
    assert os.read(pipe.reading, 4096).startswith(b"tapper: line 0 ")


def test_messages_that_come_again_are_written_once_and_counted() -> None:
    stream = io.StringIO()
    console = Console(stream)
    for _ in range(1000):
        console.warn("the server refuses")
    for number in range(1000):
        console.warn(f"another one, {number}")
    console.table(["the end"])
    lines = stream.getvalue().splitlines()
    assert lines[0] == "tapper: the server refuses"
    assert len(lines) == 257


def test_a_message_cannot_command_a_terminal() -> None:
    stream = io.StringIO()
    Console(stream).warn("the pod \x1b[31m\u202e\ud800 é\nnext")
    assert stream.getvalue() == "tapper: the pod \\x1b[31m\\u202e\\ud800 é\\nnext\n"
