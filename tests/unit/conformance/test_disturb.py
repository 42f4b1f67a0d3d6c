"""Frames out of order, repeated and overlapping carry the same two streams."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.conformance import disturb
from harness.mesh.replay import ReplayLeg, conversation
from harness.sandbox.frames import parse_tcp

LEG = ReplayLeg(("127.0.0.6", 40001), ("10.244.0.2", 8080), ("10.244.0.2", 8080))
REQUEST, ANSWER = disturb.filler(1, 1050), disturb.filler(2, 990)
FRAMES = conversation(LEG, [(REQUEST, ANSWER)], mss=200)


def streams(frames: list[bytes]) -> dict[int, bytes]:
    """What each side said, by its port; every byte at the place that its sequence number gives it."""
    found: dict[int, dict[int, int]] = {}
    first: dict[int, int] = {}
    for frame in frames:
        segment = parse_tcp(frame)
        assert segment is not None
        port = segment.flow.sport
        if segment.syn:
            first[port] = segment.seq
        for at, byte in enumerate(segment.payload):
            place = found.setdefault(port, {})
            assert place.setdefault(segment.seq + at, byte) == byte, "two segments contradict each other"
    assert {port: min(places) for port, places in found.items()} == first
    return {port: bytes(places[at] for at in sorted(places)) for port, places in found.items()}


def order(frames: list[bytes]) -> list[int]:
    return [segment.seq for frame in frames if (segment := parse_tcp(frame)) and segment.payload]


@pytest.mark.parametrize("change", [disturb.reordered, disturb.repeated, disturb.overlapping])
def test_the_streams_are_the_same_and_the_frames_are_not(change: Callable[[list[bytes]], list[bytes]]) -> None:
    changed = change(FRAMES)
    assert changed != FRAMES
    assert streams(changed) == streams(FRAMES) == {40001: REQUEST, 8080: ANSWER}


def test_what_each_does() -> None:
    assert order(disturb.reordered(FRAMES)) != sorted(order(FRAMES))
    assert sorted(order(disturb.reordered(FRAMES))) == sorted(order(FRAMES))
    assert len(disturb.repeated(FRAMES)) > len(FRAMES) + 8
    assert max(len(frame) for frame in disturb.overlapping(FRAMES)) == max(map(len, FRAMES)) + 100


def test_a_filler_does_not_repeat_itself() -> None:
    data = disturb.filler(1, 1000)
    assert len(data) == 1000
    assert len({data[at : at + 100] for at in range(900)}) == 900
