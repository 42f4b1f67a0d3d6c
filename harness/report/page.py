"""What a page shows: tappers as columns, cases in their groups, and a cell where they meet.

Plain data for the templates. Evidence is looked for on the disk, all else comes out of the reports.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from harness.conformance.model import Outcome
from harness.conformance.record import NEEDS_A_LOOK, Row, RunRecord
from harness.conformance.suite import reproduce
from harness.report.merge import Merged

SYMBOLS: Mapping[str, str] = {
    "pass": "✓",
    "fail": "✗",
    "non-strict": "!",
    "not-claimed": "\u2013",
    "delegated": "→",
    "exempt": "§",
    "blocked": "∅",
    "timeout": "…",
    "error": "?",
    "deselected": "·",
    "success": "✓",
    "failure": "✗",
    "partial": "◐",
}
"""Of outcomes and verdicts: a colour is never the only sign."""

MEANINGS: Mapping[str, str] = {
    "pass": "the requirement holds",
    "fail": "a MUST is violated, or the tapper crashed",
    "non-strict": "a SHOULD is missed",
    "not-claimed": "the adapter does not claim what the case is about",
    "delegated": "the kit did it, because the adapter asked for that",
    "exempt": "left out on the adapter's word, which gives the reason",
    "blocked": "the machine lacks something; the sentence says what",
    "timeout": "the case did not end within its time limit",
    "error": "the kit's own fault; says nothing about the tapper",
    "deselected": "this run was not asked for it",
}
VERDICTS: Mapping[str, str] = {
    "success": "every core case was tried and passed",
    "partial": "nothing failed, but core cases were not tried",
    "failure": "a core case failed, or the tapper hung or crashed",
    "not-claimed": "the adapter does not claim this profile",
}
GROUPS: Mapping[str, str] = {
    "DISC": "Discovery",
    "NETNS": "Network namespaces",
    "CAP": "Capture",
    "HTTP": "Decoding",
    "LIFE": "Life cycle",
    "EDGE": "Edges",
    "SEC": "Security",
    "LOAD": "Load",
}
_MOST_FILES = 60

Reasons = Mapping[str, Mapping[str, str]]
"""Adapter's file without its suffix -> case -> why it ended so."""


@dataclass(frozen=True, slots=True)
class Link:
    name: str
    href: str


@dataclass(frozen=True, slots=True)
class Column:
    """A tapper."""

    key: str
    """For addresses within the page."""
    label: str
    """Unlike all others on the page."""
    record: RunRecord
    conflicts: tuple[str, ...]
    url: str | None
    """Of the implementation, where it is an address to follow."""

    @property
    def to_look_at(self) -> tuple[Row, ...]:
        """The worst first."""
        return tuple(self.record.to_look_at())

    @property
    def counts(self) -> Mapping[str, int]:
        return {outcome.value: number for outcome, number in self.record.count().items()}


@dataclass(frozen=True, slots=True)
class Cell:
    """What became of a case with a tapper."""

    column: Column
    row: Row
    evidence: tuple[Link, ...]
    more_evidence: int
    """How many files are not listed."""
    reproduce: str
    why: str = ""
    """What is known of the cause, by somebody who looked."""

    @property
    def outcome(self) -> str:
        return self.row.result.outcome.value

    @property
    def address(self) -> str:
        return f"{self.row.result.case}-{self.column.key}"

    @property
    def needs_a_look(self) -> bool:
        return self.row.result.outcome in NEEDS_A_LOOK


@dataclass(frozen=True, slots=True)
class CaseView:
    """A case with all tappers. What it requires is told as the first report that knows it does."""

    row: Row
    cells: tuple[Cell | None, ...]
    """As the columns; None where the suite of that report has no such case."""
    explanation: str
    docs: str | None

    @property
    def id(self) -> str:
        return self.row.result.case

    @property
    def group(self) -> str:
        return self.id.partition("-")[0]

    @property
    def outcomes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(cell.outcome for cell in self.cells if cell))

    @property
    def differs(self) -> bool:
        """Whether the tappers that were tried came to different ends."""
        return len({cell.outcome if cell else "" for cell in self.cells}) > 1

    @property
    def needs_a_look(self) -> bool:
        return any(cell.needs_a_look for cell in self.cells if cell)


@dataclass(frozen=True, slots=True)
class Group:
    id: str
    title: str
    cases: tuple[CaseView, ...]


@dataclass(frozen=True, slots=True)
class Page:
    title: str
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    warnings: tuple[str, ...]

    @property
    def cases(self) -> tuple[CaseView, ...]:
        return tuple(case for group in self.groups for case in group.cases)

    @property
    def outcomes(self) -> Mapping[str, int]:
        """How often each occurs, in all columns."""
        total = [cell.outcome for case in self.cases for cell in case.cells if cell]
        return {outcome.value: total.count(outcome.value) for outcome in Outcome if outcome.value in total}


def build(
    merged: Sequence[Merged],
    output: Path,
    *,
    docs: str | None = None,
    explanations: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
    reasons: Reasons | None = None,
) -> Page:
    """The page of these tappers, to be written into the folder `output`.

    `docs` is the address of the folder with the cases' pages, `explanations` case -> why and how, and `names` the
    hash of an adapter's file -> the name that the command knows it by. `reasons` is what somebody found out about the
    causes; they are told of what did not pass.
    """
    labels = _labels([each.record for each in merged])
    columns = [
        Column(f"t{number}", label, each.record, each.conflicts, followable(each.record.implementation.url))
        for number, (each, label) in enumerate(zip(merged, labels, strict=True), 1)
    ]
    known: dict[str, Row] = {}
    for each in merged:
        for row in each.record.rows:
            known.setdefault(row.result.case, row)
    cells = [
        _cells(column, each, output, names or {}, reasons or {}) for column, each in zip(columns, merged, strict=True)
    ]
    views = [
        CaseView(
            row,
            tuple(column.get(case) for column in cells),
            _unwrapped((explanations or {}).get(case, "")),
            None if docs is None else f"{docs.rstrip('/')}/{case.partition('-')[0]}.md#{case.lower()}",
        )
        for case, row in known.items()
    ]
    groups = tuple(
        Group(name, GROUPS.get(name, name), tuple(view for view in views if view.group == name))
        for name in _ordered({view.group for view in views})
    )
    title = f"Conformance of {columns[0].label}" if len(columns) == 1 else f"Conformance of {len(columns)} tappers"
    return Page(title, tuple(columns), groups, _warnings(columns))


def _unwrapped(text: str) -> str:
    """Paragraphs as one line each: how long a line of the source is means nothing on a page."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _ordered(groups: set[str]) -> list[str]:
    order = list(GROUPS)
    return sorted(groups, key=lambda name: (order.index(name) if name in order else len(order), name))


def followable(url: str) -> str | None:
    """An address that a page may link to: a script, say, is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in {"http", "https"} and parts.netloc else None


def _labels(records: Sequence[RunRecord]) -> list[str]:
    """The shortest names that tell the tappers apart."""
    for parts in (1, 2, 3):
        labels = [
            " · ".join((record.implementation.name, record.implementation.version, record.started)[:parts])
            for record in records
        ]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{label} ({number})" for number, label in enumerate(labels, 1)]


def _warnings(columns: Sequence[Column]) -> tuple[str, ...]:
    found = []
    suites = {column.record.suite_sha256 for column in columns}
    if len(suites) > 1:
        told = "; ".join(f"{column.label}: {column.record.suite_sha256[:12]}" for column in columns)
        found.append(f"These reports are of different suites, so equal ids may not mean equal cases ({told}).")
    found += [
        f"{column.label}: the run ended early; the cases that it did not come to are deselected."
        for column in columns
        if not column.record.finished
    ]
    found += [f"{column.label}: {conflict}" for column in columns for conflict in column.conflicts]
    return tuple(found)


def _cells(column: Column, merged: Merged, output: Path, names: Mapping[str, str], reasons: Reasons) -> dict[str, Cell]:
    record = merged.record
    adapter = names.get(record.adapter_sha256, record.adapter_file)
    cells = {}
    for row in record.rows:
        case = row.result.case
        files = _evidence(merged.origin[case], row.result.evidence, output)
        cells[case] = Cell(
            column,
            row,
            files[:_MOST_FILES],
            len(files[_MOST_FILES:]),
            reproduce(adapter, case, record.patience),
            reasons.get(Path(record.adapter_file).stem, {}).get(case, ""),
        )
    return cells


def _evidence(directory: Path, folder: str | None, output: Path) -> tuple[Link, ...]:
    """Links to the files of a case's evidence, relative to the page. A folder outside the report's is none."""
    if folder is None or Path(folder).name != folder or folder == "..":
        return ()
    top = directory / folder
    base = output.resolve()
    # `os.walk` does not enter links to folders
    files = [Path(place) / name for place, _, names in os.walk(top) for name in names]
    return tuple(
        Link(
            str(file.relative_to(top)),
            quote(os.fsencode(os.path.relpath(directory.resolve() / folder / file.relative_to(top), base))),
        )
        for file in sorted(files)
        if file.is_file() and not file.is_symlink() and file.stat().st_size
    )
