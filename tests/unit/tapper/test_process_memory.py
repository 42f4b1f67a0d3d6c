"""Reads of other processes' memory end: by their size, or by the clock. A FIFO without a writer stands for a process
whose memory the kernel waits for."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.waiting import wait_until
from tapper.discovery import process_memory
from tapper.discovery.process_memory import ProcessMemory


@pytest.fixture
def memory() -> Iterator[ProcessMemory]:
    made = ProcessMemory(largest=100_000, patience_s=0.2)
    yield made
    made.close()


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[str]:
    """A file whose read does not come to its end."""
    path = tmp_path / "stuck"
    os.mkfifo(path)
    yield str(path)
    release(str(path))


def release(fifo: str) -> None:
    """Let whoever waits for a FIFO's writer go on: it finds the FIFO at its end."""
    os.close(os.open(fifo, os.O_RDWR | os.O_NONBLOCK))


def failure(memory: ProcessMemory, path: str) -> int | None:
    try:
        memory.read(path)
    except OSError as error:
        return error.errno
    pytest.fail(f"{path} was read")


def readers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "process-memory"}


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 100_000])
def test_a_file_is_read_to_its_end(memory: ProcessMemory, tmp_path: Path, size: int) -> None:
    (tmp_path / "environ").write_bytes(b"e" * size)
    assert memory.read(str(tmp_path / "environ")) == b"e" * size


@pytest.mark.parametrize("size", [100_001, 300_000])
def test_a_file_that_is_too_large_is_refused(memory: ProcessMemory, tmp_path: Path, size: int) -> None:
    (tmp_path / "environ").write_bytes(b"e" * size)
    assert failure(memory, str(tmp_path / "environ")) == errno.EFBIG
    assert memory.read(str(tmp_path / "environ"), 10) == b"e" * 10


def test_what_the_kernel_says_is_said(memory: ProcessMemory, tmp_path: Path) -> None:
    assert failure(memory, str(tmp_path / "gone")) == errno.ENOENT
    (tmp_path / "environ").write_bytes(b"A=1\0")
    assert memory.read(str(tmp_path / "environ")) == b"A=1\0"


def test_a_read_that_does_not_end_costs_the_next_one_nothing(memory: ProcessMemory, tmp_path: Path, stuck: str) -> None:
    (tmp_path / "environ").write_bytes(b"A=1\0")
    assert failure(memory, stuck) == errno.ETIMEDOUT
    assert memory.read(str(tmp_path / "environ")) == b"A=1\0"


def test_a_late_file_is_left_alone_for_a_while(
    memory: ProcessMemory, stuck: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert failure(memory, stuck) == errno.ETIMEDOUT
    release(stuck)
    Path(stuck).unlink()
    Path(stuck).write_bytes(b"A=1\0")
    assert failure(memory, stuck) == errno.ETIMEDOUT, "it was read again at once"
    monkeypatch.setattr(process_memory, "RETRY_S", 0.0)
    assert memory.read(stuck) == b"A=1\0"


def test_threads_that_do_not_end_are_limited_and_go_with_their_reads(tmp_path: Path) -> None:
    memory = ProcessMemory(patience_s=0.001)
    before = readers()
    fifos = [str(tmp_path / f"stuck-{number}") for number in range(process_memory.MOST_STUCK + 3)]
    for fifo in fifos:
        os.mkfifo(fifo)
    failures = [failure(memory, fifo) for fifo in fifos]
    assert failures == [errno.ETIMEDOUT] * process_memory.MOST_STUCK + [errno.EAGAIN] * 3
    started = readers() - before  # an earlier test's thread may be ending only now
    assert len(started) == process_memory.MOST_STUCK

    def all_have_ended() -> bool:
        for fifo in fifos[: process_memory.MOST_STUCK]:
            release(fifo)  # again and again: a thread may not have opened it yet
        return not any(thread.is_alive() for thread in started)

    wait_until(all_have_ended, "the end of the threads that were stuck")


def test_no_thread_can_be_had(memory: ProcessMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert failure(memory, str(tmp_path / "environ")) == errno.EAGAIN
