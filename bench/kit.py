"""How fast the kit itself is: a node, a pod, a mesh, the whole catalogue. `script/bench --kit`.

Wall time, since that is what somebody waits for. The machine has to be quiet; the table says how quiet it was.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from bench.result import load_average
from harness.errors import HarnessError
from harness.mesh.mesh import Mesh
from harness.sandbox.node import Node

T = TypeVar("T")

_PODS = 5


@dataclass(frozen=True, slots=True)
class Timing:
    """The durations of one operation, measured several times."""

    what: str
    seconds: tuple[float, ...]
    goal: float | None = None
    """The limit of the median."""


def measure(times: int, *, catalogue: bool = True) -> Iterator[Timing]:
    """Measure each operation `times` times, and the catalogue of cases once. Raises HarnessError if a case fails."""
    with Node() as warm:  # import modules and start helpers before the clock runs
        warm.pod("warm")
        Mesh(warm)
    nodes, pods, ends = [], [], []
    for _ in range(times):
        took, node = _timed(Node)
        nodes.append(took)
        pods += [_timed(partial(node.pod, f"pod-{number}"))[0] for number in range(_PODS)]
        ends.append(_timed(node.close)[0])
    yield Timing("a node", tuple(nodes))
    yield Timing("a pod", tuple(pods), 0.012)
    yield Timing(f"the end of a node with {_PODS} pods", tuple(ends))
    yield Timing(
        "a node, a mesh of two pods with mTLS, and a request through it", tuple(_mesh() for _ in range(times)), 1.0
    )
    if catalogue:
        yield Timing("the catalogue, with the reference tapper", (_timed(_check)[0],), 30.0)


def table(timings: list[Timing]) -> str:
    """The durations as a table in Markdown."""
    lines = [
        f"Load average at the end {load_average()}.",
        "",
        "| what | times | median | least | most | goal |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for each in timings:
        figures = [statistics.median(each.seconds), min(each.seconds), max(each.seconds)]
        cells = [each.what, str(len(each.seconds)), *map(_shown, figures)]
        lines.append(f"| {' | '.join(cells)} | {'' if each.goal is None else _shown(each.goal)} |")
    return "\n".join(lines) + "\n"


def _shown(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _timed(function: Callable[[], T]) -> tuple[float, T]:
    began = time.perf_counter()
    made = function()
    return time.perf_counter() - began, made


def _mesh() -> float:
    began = time.perf_counter()
    with Node() as node:
        mesh = Mesh(node)
        client, server = mesh.pod("client"), mesh.pod("server")
        mesh.inject(client, server)
        mesh.send(client, server)
        return time.perf_counter() - began


def _check() -> None:
    with tempfile.TemporaryDirectory(prefix="tapper-harness-kit-") as folder:
        argv = [sys.executable, "-c", "import sys; from harness.cli import main; sys.exit(main())", "check"]
        ended = subprocess.run(
            [*argv, "--adapter", "reference", "--report", folder], capture_output=True, text=True, check=False
        )
    if ended.returncode != 0:
        said = (ended.stdout + ended.stderr).strip().splitlines()
        raise HarnessError(f"the reference tapper does not pass the catalogue: {said[-1] if said else 'no word'}")
