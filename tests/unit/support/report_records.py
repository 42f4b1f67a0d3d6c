"""Reports of tappers that there are not, for what is made of reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.adapters.contract import Implementation
from harness.conformance.model import Outcome, Result
from harness.conformance.record import Environment, Row, RunRecord
from harness.report.merge import verdicts

WORLD = (
    ("DISC-01", "MUST", "A tapper MUST find an Envoy."),
    ("CAP-01", "MUST", "A tapper MUST see what is on a pod's `lo`."),
    ("CAP-02", "SHOULD", "A tapper SHOULD see port 443."),
    ("LOAD-01", "MUST", "A tapper MUST count what it loses."),
)
CLAIMS = ("http1", "packets")


def result(case: str, outcome: Outcome = Outcome.PASS, **more: Any) -> Result:
    """With a sentence where there has to be one."""
    return replace(
        Result(case, outcome, "" if outcome is Outcome.PASS else f"why {case} ended so", seconds=1.5), **more
    )


def record(results: Mapping[str, Result] | None = None, *, name: str = "a tapper", **more: Any) -> RunRecord:
    """Cases that are not named passed."""
    results = results or {}
    rows = tuple(
        Row(level, requirement, "somebody had it", (), ("TAP-PACKET", "TAP-HTTP1"), results.get(case) or result(case))
        for case, level, requirement in WORLD
    )
    known = RunRecord(
        suite_version="1.2.3",
        suite_sha256="5" * 64,
        adapter_file="mine.toml",
        adapter_sha256="a" * 64,
        implementation=Implementation(name, "its makers", "https://tapper.example/", "7.0", "them"),
        claims=CLAIMS,
        environment=Environment("6.1", "1.40.0", "3.11.7"),
        started="2026-01-02T03:04:05Z",
        seconds=12.5,
        patience=1.0,
        jobs=2,
        asked_profiles=(),
        asked_cases=(),
        finished=True,
        profiles=verdicts(rows, CLAIMS),
        rows=rows,
    )
    return replace(known, **more)
