"""The curves, small: each has the points that it was asked for, and what they rest on is true."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import profile, rounds, scaling
from bench.measure import Metered
from bench.result import Point
from bench.workloads import Workload
from harness.sandbox.node import Node

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the bench starts tappers with capabilities: run it as root")


def test_namespaces_are_all_opened() -> None:
    points = list(scaling.namespaces((1, 3)))
    assert [(point.series, point.x) for point in points] == [
        (series, count) for count in (1, 3) for series in (scaling.OPENING, scaling.IDLE)
    ]
    assert all(0 <= point.y < 100 for point in points)


def test_a_process_that_has_just_ended_is_none(tmp_path: Path) -> None:
    """Its folder is listed, and then what is in it is gone."""
    for pid in ("10", "11", "12"):
        (tmp_path / pid).mkdir()
    for pid in ("10", "11"):
        (tmp_path / pid / "cmdline").write_bytes(b"sleep\x001d\x00")
    assert scaling._are_running(tmp_path, 2)
    assert not scaling._are_running(tmp_path, 3)


def test_a_curve_that_fails_costs_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken() -> Iterator[Point]:
        yield from (Point(scaling.OPENING, each.stat().st_size, 0.0, "s") for each in [tmp_path / "gone"])

    point = Point(scaling.OPENING, 1, 0.5, "s")
    monkeypatch.setattr(scaling, "curves", lambda **_: {"broken": broken(), "whole": iter([point])})
    monkeypatch.setattr(rounds, "QUICK", [])
    found = command.run(argparse.Namespace(quick=True, only=[], rounds=1, no_scaling=False))
    assert found.points == [point]
    assert "gone" in found.problems[0]


def test_processes_are_really_there(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    starts = scaling._start

    def counted(node: Node, addresses: list[str]) -> Metered:
        seen.append(sum(scaling._sleeps(entry) for entry in node.procfs.iterdir() if entry.name.isdigit()))
        return starts(node, addresses)

    monkeypatch.setattr(scaling, "_start", counted)
    points = list(scaling.processes((10, 40)))
    assert seen == [10, 40]
    assert [point.x for point in points] == [10, 10, 10, 40, 40, 40]


def test_a_gap_is_survived() -> None:
    (point,) = scaling.gap()
    assert 1000 < point.x < 2000  # the second half of 3200, less a fifth of a second
    assert point.y >= 99


def test_memory_is_read_while_it_runs() -> None:
    *points, growth = scaling.memory(passes=3)
    assert [point.x for point in points] == [3200, 6400, 9600]
    assert all(5 < point.y < 100 for point in points)
    assert growth.series == scaling.GROWTH


def test_a_tiny_run_from_the_command_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = (rounds.Entry(Workload(rounds.BASE, requests=208), None, 2),)
    monkeypatch.setattr(rounds, "QUICK", tiny)
    argv = ["--quick", "--no-scaling", "--only", "tapper,tcpdump -w", "--output", str(tmp_path)]
    assert command.main(argv) == 0
    told = json.loads((tmp_path / "bench.json").read_text())
    order = [each["peer"] for each in told["measurements"]]
    assert order == ["tapper", "tcpdump -w", "tcpdump -w", "tapper"]  # alternating
    assert [each["seen"] for each in told["measurements"]] == [208] * 4
    assert told["versions"].keys() == {"tapper", "tcpdump -w"}
    assert "the tapper against tcpdump -w" in capsys.readouterr().out
    assert (tmp_path / "bench.png").exists()
    assert (tmp_path / "bench.md").exists()


def test_a_profile_names_what_is_at_work() -> None:
    samples = profile.take(Workload("small", requests=20_000, rate=10_000))  # some 150 samples: none of a tenth is rare
    assert {"tapper.protocols", "tapper.streams"} <= profile.by_concept(samples).keys()
