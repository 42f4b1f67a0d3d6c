"""When the loop looks for packets of which no descriptor tells."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

import tapper
from tapper.capture.mapped import Statistics
from tapper.capture.source import Source
from tapper.capture.sources import LOOK_S, SECOND_LOOK_S, Sources
from tapper.streams.packet import Packet


class Ring:
    """A ring whose descriptor is never readable."""

    cut = bad_checksum = unread = 0
    crowded = is_ready = False

    def __init__(self, descriptor: int, clock: SimpleNamespace) -> None:
        self.fileno = lambda: descriptor
        self.counted = False
        self.looks: list[float] = []
        self._clock = clock

    def unfinished(self) -> None:
        self.looks.append(self._clock.monotonic())

    def packets(self) -> list[tuple[bytes, list[Packet]]]:
        return []

    def statistics(self) -> Statistics:
        return Statistics()

    def close(self) -> None:
        pass


@pytest.mark.skipif(
    tapper.FORM == "compiled", reason="a compiled module has the clock itself, which no test can replace"
)
def test_what_a_look_has_counted_is_read_soon_and_idle_sources_are_looked_at_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("tapper.capture.sources.time", clock)
    sources: Sources[int] = Sources()
    descriptor = os.eventfd(0, os.EFD_CLOEXEC)
    ring = Ring(descriptor, clock)
    sources.add(Source("lo", ring, None))  # type: ignore[arg-type]
    expected = []

    def turn(after_s: float, *, looks: bool) -> None:
        now[0] += after_s
        if looks:
            expected.append(now[0])
        sources.turn(0.0, lambda *_: None, lambda *_: None, lambda *_: None)

    turn(0.0, looks=True)
    turn(SECOND_LOOK_S, looks=False)  # nothing was counted
    ring.counted = True
    turn(LOOK_S, looks=True)
    turn(SECOND_LOOK_S, looks=True)
    turn(SECOND_LOOK_S, looks=False)  # more was counted: traffic goes on
    turn(LOOK_S, looks=True)
    assert ring.looks == expected
    sources.close()
    os.close(descriptor)
