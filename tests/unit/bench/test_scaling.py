"""The curves, small: each has the points that it was asked for, and what they rest on is true."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import profile, rounds, scaling
from bench.measure import Metered
from bench.workloads import Workload
from harness.sandbox.node import Node

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the bench starts tappers with capabilities: run it as root")


def test_namespaces_are_all_opened() -> None:
    points = list(scaling.namespaces((1, 3)))
    assert [(point.series, point.x) for point in points] == [
        (series, count) for count in (1, 3) for series in (scaling.OPENING, scaling.IDLE)
    ]
    assert all(0 <= point.y < 100 for point in points)


def test_processes_are_really_there(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    starts = scaling._start

    def counted(node: Node, addresses: list[str]) -> Metered:
        names = [entry.name for entry in node.procfs.iterdir() if entry.name.isdigit()]
        seen.append(sum((node.procfs / name / "cmdline").read_bytes() == b"sleep\x001d\x00" for name in names))
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


def test_a_scans_cost_is_no_less_than_what_the_interval_says() -> None:
    """1 % of a core at a look each half second; 10 %, which makes the interval a longer one."""
    assert scaling.scan_cost(1.0) == pytest.approx(5.0)
    assert scaling.scan_cost(10.0) == pytest.approx(80.0)
