"""The summary at the end of a run. Pure: a record in, text out."""

from __future__ import annotations

import textwrap
from pathlib import Path

from harness.conformance.model import Outcome
from harness.conformance.record import CaseRow, RunRecord
from harness.conformance.suite import reproduce
from tapper.output.escape import escape

_WIDTH = 110


def text(record: RunRecord, directory: Path, adapter: str) -> str:
    """`directory` is the report's; `adapter` is its name or file, for the commands that run a case alone."""
    blocks = [_about(row, record, directory, adapter) for row in record.to_look_at()]
    notes = [f"{row.result.case}: {escape(note)}" for row in record.rows for note in row.result.notes]
    if notes:
        blocks.append("Noticed besides:\n" + "\n".join(f"  {note}" for note in notes))
    if not record.finished:
        blocks.append("The run ended early: the cases that it did not come to are `deselected`.")
    counts = ", ".join(f"{number} {outcome}" for outcome, number in record.count().items())
    lines = [f"{name:<12} {verdict:<12} {record.in_words(name)}" for name, verdict in record.judged.items()]
    if record.asked_cases:
        lines.append("Only the named cases were run; a verdict on a profile takes them all.")
    if record.cluster is not None:
        lines.append(f"In the cluster: {record.cluster.in_words}.")
    blocks.append("\n".join([*lines, f"{counts}, in {record.seconds:.1f} s", f"Report: {directory / 'report.yaml'}"]))
    return "\n" + "\n\n".join(blocks)


def _about(row: CaseRow, record: RunRecord, directory: Path, adapter: str) -> str:
    result = row.result
    lines = [f"{result.case} {result.outcome}: {row.requirement}"]
    if result.outcome in {Outcome.FAIL, Outcome.NON_STRICT, Outcome.TIMEOUT} and result.expected:
        lines += [_field("expected", result.expected), _field("seen", result.seen)]
    else:
        lines.append(_field("because", result.sentence))
    if result.evidence is not None:
        lines.append(_field("evidence", str(directory / result.evidence)))
    command = reproduce(adapter, result.case, record.patience, record.cluster, seen_in=result.evidence)
    lines.append(_field("run it alone", command, wrap=False))
    return "\n".join(lines)


def _field(name: str, value: str, *, wrap: bool = True) -> str:
    start, value = f"  {name + ':':<14}", escape(value)
    if not wrap:
        return start + value
    return textwrap.fill(value, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start)) or start.rstrip()
