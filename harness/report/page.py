"""The content of a page: tappers as columns, cases in their groups, and a cell where they meet. Plain data, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.conformance.model import Outcome
from harness.conformance.record import NEEDS_A_LOOK, CaseRow, RunRecord

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
"""The signs of outcomes and verdicts: a colour is never the only sign."""

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
GROUPS: Mapping[str, str] = {
    "DISC": "Discovery",
    "NETNS": "Network namespaces",
    "CAP": "Capture",
    "HTTP": "Decoding",
    "LIFE": "Life cycle",
    "EDGE": "Edges",
    "SEC": "Security",
    "GEN": "Generated conversations",
    "LOAD": "Load",
}


PASSED, FAILED, NOT_CLAIMED, NOT_KNOWN = range(4)
"""The counts of a matrix's cell, in their order."""
_COUNTED_AS = {
    Outcome.PASS: PASSED,
    Outcome.FAIL: FAILED,
    Outcome.TIMEOUT: FAILED,
    Outcome.NON_STRICT: FAILED,
    Outcome.NOT_CLAIMED: NOT_CLAIMED,
    Outcome.DELEGATED: NOT_CLAIMED,
    Outcome.EXEMPT: NOT_CLAIMED,
}


@dataclass(frozen=True, slots=True)
class Link:
    name: str
    href: str


@dataclass(frozen=True, slots=True)
class Column:
    """A tapper."""

    key: str
    """The fragment of addresses within the page."""
    label: str
    """A name that is unique on the page."""
    record: RunRecord
    conflicts: tuple[str, ...]
    url: str | None
    """The address of the implementation, if a page may link to it."""

    @property
    def to_look_at(self) -> tuple[CaseRow, ...]:
        """The rows that need attention, the worst first."""
        return tuple(self.record.to_look_at())

    @property
    def counts(self) -> Mapping[str, int]:
        return {outcome.value: number for outcome, number in self.record.count().items()}


@dataclass(frozen=True, slots=True)
class Cell:
    """The result of a case with a tapper."""

    column: Column
    row: CaseRow
    evidence: tuple[Link, ...]
    more_evidence: int
    """The number of files that are not listed."""
    reproduce: str
    why: str = ""
    """The reason of the failure, if known."""

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
    """A case with all tappers. Requirement text comes from the first report that has the case."""

    row: CaseRow
    cells: tuple[Cell | None, ...]
    """One cell for each column; None if that report's suite has no such case."""
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


def tally(cases: Iterable[CaseView], column: int) -> tuple[int, int, int, int]:
    """How many of these cases a tapper passed, failed, did not claim, and how many nobody knows about."""
    counts = [0, 0, 0, 0]
    for case in cases:
        cell = case.cells[column]
        counts[NOT_KNOWN if cell is None else _COUNTED_AS.get(cell.row.result.outcome, NOT_KNOWN)] += 1
    return counts[PASSED], counts[FAILED], counts[NOT_CLAIMED], counts[NOT_KNOWN]


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
