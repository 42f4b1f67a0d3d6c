"""Reports of tappers that there are not, for what is made of reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.adapters.contract import Implementation
from harness.conformance.model import Outcome, Result
from harness.conformance.record import CaseRow, Environment, RunRecord, verdicts

WORLD = (
    ("DISC-01", "MUST", "A tapper MUST find an Envoy."),
    ("CAP-01", "MUST", "A tapper MUST see what is on a pod's `lo`."),
    ("CAP-02", "SHOULD", "A tapper SHOULD see port 443."),
    ("LOAD-01", "MUST", "A tapper MUST count what it loses."),
)
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}|`x`\x00\x1b[31m\u202e]]>&amp;\ud800 @all"
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
        CaseRow(
            level, requirement, "somebody had it", (), ("TAP-PACKET", "TAP-HTTP1"), results.get(case) or result(case)
        )
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


def hostile() -> RunRecord:
    """Of a tapper that says in every place what a page must not do."""
    ends = {
        case: result(
            case, outcome, sentence=HOSTILE, expected=HOSTILE, seen=HOSTILE, notes=(HOSTILE,), evidence=f"{HOSTILE}/.."
        )
        for (case, _, _), outcome in zip(
            WORLD, (Outcome.FAIL, Outcome.ERROR, Outcome.NON_STRICT, Outcome.EXEMPT), strict=True
        )
    }
    who = Implementation(HOSTILE, HOSTILE, "javascript:alert(1)", HOSTILE, HOSTILE)
    known = record(ends, implementation=who, adapter_file=HOSTILE, claims=(HOSTILE,))
    return replace(known, rows=tuple(replace(row, source=HOSTILE, requirement=HOSTILE) for row in known.rows))
