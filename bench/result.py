"""The result of a run, and its file: machine, versions, measurements and curves."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bench.measure import Measurement
from bench.peers import Peer


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a curve of the tapper: at `x` of `series` the value is `y`, in `unit`."""

    series: str
    x: float
    y: float
    unit: str


@dataclass(slots=True)
class Result:
    quick: bool
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    machine: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    profile: dict[str, int] = field(default_factory=dict)
    """The number of samples of the pure-Python form, by `module:function`."""
    problems: list[str] = field(default_factory=list)
    """A sentence for each failed measurement of a curve or of the profile."""

    def of(self, workload: str, peer: str) -> list[Measurement]:
        """The good measurements of one peer with one workload."""
        return [m for m in self.measurements if (m.workload, m.peer, m.died) == (workload, peer, None)]

    def point(self, series: str, x: float | None = None) -> Point | None:
        """The point of a series at `x`, by default its last one; None if there is none."""
        found = [point for point in self.points if point.series == series and x in (None, point.x)]
        return found[-1] if found else None

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        text = json.dumps(dataclasses.asdict(self), indent=1) + "\n"
        (directory / "bench.json").write_text(text, encoding="utf-8")
        (directory / "bench.csv").write_text(as_csv(self.measurements), encoding="utf-8")


def load(path: Path) -> Result:
    told = json.loads(path.read_text(encoding="utf-8"))
    told["measurements"] = [Measurement(**each) for each in told["measurements"]]
    told["points"] = [Point(**each) for each in told["points"]]
    return Result(**told)


def as_csv(measurements: Sequence[Measurement]) -> str:
    """The measurements as CSV, one a line, with the values that are derived from them."""
    derived = ("per_10k", "share", "exact")
    names = [each.name for each in dataclasses.fields(Measurement)]
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow([*names, *derived])
    for measurement in measurements:
        writer.writerow([getattr(measurement, name) for name in (*names, *derived)])
    return written.getvalue()


def machine() -> dict[str, str]:
    """The machine of the run and its load average, by name."""
    models = {
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    }
    memory = Path("/proc/meminfo").read_text().split()[1]
    return {
        "processor": ", ".join(sorted(models)) or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{int(memory) // (1 << 20)} GiB",
        "kernel": platform.release(),
        "python": platform.python_version() + (", the system's own" if sys.base_prefix == "/usr" else ""),
        "load before": load_average(),
    }


def load_average() -> str:
    """The load average over one, five and fifteen minutes."""
    return " ".join(f"{each:.1f}" for each in os.getloadavg())


def versions(peers: Sequence[Peer]) -> tuple[dict[str, str], dict[str, str]]:
    """The versions of the peers that this machine has, and the reasons why others are missing, both by peer."""
    lacking = {peer.name: peer.missing for peer in peers if peer.missing is not None}
    there = {peer.name: peer.version() for peer in peers if peer.name not in lacking}
    return there, {name: f"this machine has not {lacks}" for name, lacks in lacking.items()}
