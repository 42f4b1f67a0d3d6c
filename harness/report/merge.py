"""Merging several runs of one tapper: a case that one run left out may be in another. Pure.

Runs belong together if only the choice of cases can tell them apart: the adapter, the version of the tapper, the suite,
the machine's kernel and Envoy, and the patience are the same. Of two different outcomes of one case the worse one
counts, and the difference is reported: a tapper that passes now and then does not pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.conformance.model import Outcome
from harness.conformance.record import CaseRow, RunRecord, verdicts

WORST_FIRST = (
    Outcome.FAIL,
    Outcome.TIMEOUT,
    Outcome.ERROR,
    Outcome.NON_STRICT,
    Outcome.BLOCKED,
    Outcome.EXEMPT,
    Outcome.DELEGATED,
    Outcome.NOT_CLAIMED,
    Outcome.PASS,
    Outcome.DESELECTED,
)


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A report, and the folder that it lies in with its evidence."""

    record: RunRecord
    directory: Path


@dataclass(frozen=True, slots=True)
class Merged:
    """The merged report of one tapper."""

    record: RunRecord
    origin: Mapping[str, Path]
    """Case -> the folder of the report with its result."""
    conflicts: tuple[str, ...]
    """A sentence for each case that ended differently in two runs."""


def merge(sources: Iterable[StoredReport]) -> tuple[Merged, ...]:
    """One merged report for every tapper and suite, in the order of the sources."""
    together: dict[object, list[StoredReport]] = {}
    for source in sources:
        together.setdefault(_identity(source.record), []).append(source)
    return tuple(_merge(sorted(runs, key=lambda run: run.record.started)) for runs in together.values())


def _identity(record: RunRecord) -> object:
    return (
        record.adapter_sha256,
        record.implementation,
        record.suite_sha256,
        record.environment,
        record.patience,
        tuple(row.result.case for row in record.rows),
    )


def _merge(runs: Sequence[StoredReport]) -> Merged:
    last = runs[-1].record
    if len(runs) == 1:
        return Merged(last, dict.fromkeys(last.results, runs[0].directory), ())
    rows: list[CaseRow] = []
    origin: dict[str, Path] = {}
    conflicts: list[str] = []
    for case in last.results:
        known = [(_row(run.record, case), run) for run in runs]
        # of two that are equally bad, the later one
        row, run = min(reversed(known), key=lambda pair: WORST_FIRST.index(pair[0].result.outcome))
        rows.append(row)
        origin[case] = run.directory
        ends = [
            (row.result.outcome, run.record.started)
            for row, run in known
            if row.result.outcome is not Outcome.DESELECTED
        ]
        if len({outcome for outcome, _ in ends}) > 1:
            in_turn = ", then ".join(f"{outcome} ({started})" for outcome, started in ends)
            conflicts.append(f"{case} ended differently in runs of the same tapper: {in_turn}; the worse one counts.")
    whole = any(not run.record.asked_cases for run in runs)
    record = replace(
        last,
        started=runs[0].record.started,
        seconds=sum(run.record.seconds for run in runs),
        asked_profiles=_union(run.record.asked_profiles for run in runs),
        asked_cases=() if whole else _union(run.record.asked_cases for run in runs),
        finished=all(run.record.finished for run in runs),
        profiles=verdicts(rows, last.claims),
        rows=tuple(rows),
    )
    return Merged(record, origin, tuple(conflicts))


def _row(record: RunRecord, case: str) -> CaseRow:
    return next(row for row in record.rows if row.result.case == case)


def _union(lists: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """All names in the order of their first mention; empty, which stands for all, if one sequence is empty."""
    known = list(lists)
    return tuple(dict.fromkeys(name for names in known for name in names)) if all(known) else ()
