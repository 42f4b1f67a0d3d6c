"""What comes through a tapper's pipes is taken at once, and whoever waits for it is woken."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from harness.adapters.pipes import Pipes
from harness.waiting import DEFAULT_TIMEOUT, wait_until

PIECE = 1 << 16
LONG = 10.0
"""Seconds: nothing of this takes a hundredth of it."""


@dataclass
class Ends:
    """The tapper's ends of the pipes, and what was taken at the other side."""

    stdout: int
    ready: int
    readers: tuple[int, int]
    taken: list[bytes] = field(default_factory=list)


@pytest.fixture
def ends() -> Iterator[Ends]:
    (reading, stdout), (ready_read, ready) = os.pipe(), os.pipe()
    made = Ends(stdout, ready, (reading, ready_read))
    yield made
    os.close(reading)


def test_output_is_taken_and_ends_the_wait(ends: Ends) -> None:
    pipes = Pipes(*ends.readers, ends.taken.append)
    os.write(ends.stdout, b"first")
    assert pipes.wait_for_news(LONG)
    assert ends.taken == [b"first"]
    assert [pipes.closed] == [False]
    os.close(ends.stdout)
    assert pipes.wait_for_news(LONG)
    assert pipes.closed
    os.close(ends.ready)
    pipes.finish(DEFAULT_TIMEOUT)
    assert ends.taken == [b"first", b""]


def test_all_is_read_at_the_end_however_slowly(ends: Ends) -> None:
    """Each piece takes a third of the time that is given, and there are four."""
    fcntl.fcntl(ends.stdout, fcntl.F_SETPIPE_SZ, 4 * PIECE)

    def take_slowly(data: bytes) -> None:
        threading.Event().wait(0.35)
        ends.taken.append(data)

    os.write(ends.stdout, bytes(4 * PIECE))
    os.close(ends.stdout)
    os.close(ends.ready)
    Pipes(*ends.readers, take_slowly).finish(1.0)
    assert sum(map(len, ends.taken)) == 4 * PIECE


def test_the_word_that_it_is_ready_is_news(ends: Ends) -> None:
    pipes = Pipes(*ends.readers, ends.taken.append)
    assert [pipes.said_ready] == [False]
    os.write(ends.ready, b"\n")
    assert pipes.wait_for_news(LONG)
    assert pipes.said_ready
    assert not pipes.wait_for_news(0.0), "it was told once"
    os.close(ends.ready)
    os.close(ends.stdout)
    pipes.finish(DEFAULT_TIMEOUT)


def test_to_close_the_descriptor_is_no_word(ends: Ends) -> None:
    pipes = Pipes(*ends.readers, ends.taken.append)
    os.close(ends.ready)
    os.close(ends.stdout)
    pipes.finish(DEFAULT_TIMEOUT)
    assert pipes.closed
    assert not pipes.said_ready
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(ends.readers[1])


def test_a_descriptor_that_somebody_keeps_is_let_go(ends: Ends) -> None:
    """A child that was left behind has it still; its pipe's end would never come."""
    pipes = Pipes(*ends.readers, ends.taken.append)
    os.close(ends.stdout)
    pipes.finish(DEFAULT_TIMEOUT)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(ends.readers[1])
    os.close(ends.ready)


def test_who_outlives_the_wait_reads_what_is_its_own(ends: Ends) -> None:
    """Somebody who hides holds standard output open until the node is closed, which closes its descriptor first."""
    pipes = Pipes(*ends.readers, ends.taken.append)
    os.write(ends.ready, b"\n")
    assert pipes.wait_for_news(LONG)
    pipes.finish(0.0)
    reading, writing = os.pipe()
    os.dup2(reading, ends.readers[0])  # as one that is opened next gets the number of one that was closed
    os.write(writing, b"of somebody else")
    os.write(ends.stdout, b"late")
    assert pipes.wait_for_news(LONG)
    assert ends.taken == [b"late"]
    assert os.read(reading, 99) == b"of somebody else"
    for descriptor in (ends.ready, ends.stdout, reading, writing):
        os.close(descriptor)
    pipes.finish(DEFAULT_TIMEOUT)
    assert pipes.closed


def test_what_is_held_is_taken_later(ends: Ends) -> None:
    pipes = Pipes(*ends.readers, ends.taken.append)
    pipes.hold()
    os.write(ends.stdout, b"first")
    os.write(ends.ready, b"\n")
    wait_until(lambda: pipes.said_ready, "the word that it is ready")
    assert ends.taken == []
    pipes.go_on()
    wait_until(lambda: ends.taken == [b"first"], "what was held")
    os.close(ends.ready)
    pipes.hold()
    os.close(ends.stdout)
    wait_until(lambda: pipes.closed, "the end of it")
    pipes.finish(DEFAULT_TIMEOUT)
