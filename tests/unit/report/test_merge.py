"""Several runs of a tapper become one column; two tappers, or two suites, never do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_records import CLAIMS, WORLD, record, result

from harness.conformance.model import Outcome
from harness.conformance.record import RunRecord, verdicts
from harness.report.merge import WORST_FIRST, StoredReport, merge

EARLY, LATE = "2026-01-02T03:04:05Z", "2026-01-03T03:04:05Z"


def sources(*records: RunRecord) -> list[StoredReport]:
    return [StoredReport(each, Path(f"run-{number}")) for number, each in enumerate(records)]


def only(case: str, outcome: Outcome, started: str) -> RunRecord:
    """A run that was asked for one case."""
    rest = {each: result(each, Outcome.DESELECTED) for each, _, _ in WORLD}
    return record({**rest, case: result(case, outcome)}, started=started, asked_cases=(case,), profiles={})


@pytest.mark.parametrize("turned", [False, True])
def test_what_one_run_was_not_asked_for_another_knows(turned: bool) -> None:
    runs = sources(only("CAP-01", Outcome.FAIL, EARLY), only("LOAD-01", Outcome.PASS, LATE))
    (merged,) = merge(reversed(runs) if turned else runs)
    ends = {case: each.outcome for case, each in merged.record.results.items()}
    assert ends["CAP-01"] is Outcome.FAIL
    assert ends["LOAD-01"] is Outcome.PASS
    assert ends["DISC-01"] is Outcome.DESELECTED
    assert merged.origin["CAP-01"] == Path("run-0")
    assert merged.origin["LOAD-01"] == Path("run-1")
    assert merged.record.asked_cases == ("CAP-01", "LOAD-01")
    assert merged.record.started == EARLY
    assert merged.record.profiles["TAP-HTTP1"] == "failure"
    assert not merged.conflicts


@pytest.mark.parametrize(("first", "then"), [(Outcome.PASS, Outcome.FAIL), (Outcome.FAIL, Outcome.PASS)])
def test_the_worse_of_two_ends_counts_and_is_said(first: Outcome, then: Outcome) -> None:
    (merged,) = merge(sources(only("CAP-01", first, EARLY), only("CAP-01", then, LATE)))
    assert merged.record.results["CAP-01"].outcome is Outcome.FAIL
    (conflict,) = merged.conflicts
    assert conflict == (
        f"CAP-01 ended differently in runs of the same tapper: {first} ({EARLY}), then {then} ({LATE}); "
        "the worse one counts."
    )


def test_of_equal_ends_the_later_run_is_shown() -> None:
    (merged,) = merge(sources(only("CAP-01", Outcome.PASS, LATE), only("CAP-01", Outcome.PASS, EARLY)))
    assert merged.origin["CAP-01"] == Path("run-0")
    assert not merged.conflicts


@pytest.mark.parametrize(
    "other",
    [
        {"adapter_sha256": "b" * 64},
        {"suite_sha256": "6" * 64},
        {"implementation": replace(record().implementation, version="8.0")},
        {"environment": replace(record().environment, kernel="6.2")},
        {"patience": 3.0},
    ],
    ids=lambda other: next(iter(other)),
)
def test_runs_that_differ_in_more_than_the_choice_of_cases_stay_apart(other: dict[str, Any]) -> None:
    assert len(merge(sources(record(), record(**other)))) == 2


def test_a_run_that_ended_early_is_not_made_whole_by_another() -> None:
    (merged,) = merge(sources(record(finished=False, started=EARLY), record(started=LATE)))
    assert not merged.record.finished


def test_verdicts_follow_from_the_rows() -> None:
    assert verdicts(record().rows, CLAIMS) == {
        "TAP-PACKET": "success",
        "TAP-HTTP1": "success",
        "TAP-HTTP2": "not-claimed",
        "TAP-TLS": "not-claimed",
    }
    should = record({"CAP-02": result("CAP-02", Outcome.NON_STRICT)})
    assert should.profiles["TAP-PACKET"] == "success"
    assert record({"CAP-01": result("CAP-01", Outcome.BLOCKED)}).profiles["TAP-PACKET"] == "partial"


def test_every_outcome_has_its_place_among_the_worse_and_the_better() -> None:
    assert sorted(WORST_FIRST) == sorted(Outcome)
