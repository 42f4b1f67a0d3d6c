"""Looking for wild mutants that no case finds.

The reference is run in every case first. A combination is then tried only in cases in which it would change what the
reference wrote; one that changes nothing anywhere shows that no case reaches its condition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from harness.conformance.model import Outcome, Result
from harness.conformance.mutants import wild
from harness.conformance.mutants.conditions import CONDITIONS
from harness.conformance.mutants.rules import RULES
from harness.conformance.mutants.streams import Record, parsed

FOUND = frozenset({Outcome.FAIL, Outcome.NON_STRICT, Outcome.TIMEOUT})
"""The outcomes of a case that finds a mutant."""
MOST_TRIES = 6
"""The number of cases in which a combination is tried: a kit that compares everything finds it in the first one."""
LAST_TRY = "GEN-09"
"""The case in which every two circumstances meet. It takes long, and is tried after the quick ones."""

Runs: TypeAlias = Mapping[str, Sequence[Sequence[Record]]]
"""Case -> the outputs of the reference in it, one for each time that it was started."""
Try: TypeAlias = Callable[[Sequence[tuple[str, str]]], Mapping[tuple[str, str], Result]]
"""Runs combinations in cases: pairs of both names -> results."""


@dataclass(frozen=True, slots=True)
class WildVerdict:
    """The result of a combination."""

    name: str
    tried: tuple[str, ...]
    """The cases it was tried in, in order; none where no case reaches it."""
    found_by: str | None
    """The case that found it, which is the last of these."""

    @property
    def survived(self) -> bool:
        return bool(self.tried) and self.found_by is None


def is_found(result: Result) -> bool:
    """Whether a case has found a mutant: it fails, or a charge from its trial fails another case."""
    return result.outcome in FOUND or bool(result.charges)


def runs_of(evidence: Path) -> dict[str, list[list[Record]]]:
    """The outputs of the reference, from the evidence folders of its cases."""
    found: dict[str, list[list[Record]]] = {}
    for written in sorted(evidence.glob("*/tap-*/stdout")):
        lines = written.read_bytes().splitlines()
        records = [record for line in lines if (record := parsed(line)) is not None]
        found.setdefault(written.parents[1].name, []).append(records)
    return found


def reaching(name: str, runs: Runs, seconds: Mapping[str, float]) -> list[str]:
    """The cases in which a combination changes the output, the quickest first."""
    cases = [case for case, of_case in runs.items() if any(wild.changes(name, run) for run in of_case)]
    return sorted(cases, key=lambda case: (seconds.get(case, 0.0), case))


def _chosen(cases: Sequence[str]) -> list[str]:
    """The cases in which a combination is tried, in order."""
    others = [case for case in cases if case != LAST_TRY]
    return [*others[: MOST_TRIES - 1], LAST_TRY] if LAST_TRY in cases else others[:MOST_TRIES]


def hunt(names: Iterable[str], runs: Runs, seconds: Mapping[str, float], attempt: Try) -> list[WildVerdict]:
    """Try each combination in one case after the other, until one finds it."""
    to_try = {name: _chosen(reaching(name, runs, seconds)) for name in names}
    verdicts = {name: WildVerdict(name, (), None) for name in to_try}
    for turn in range(MOST_TRIES):
        pairs = [
            (name, cases[turn])
            for name, cases in to_try.items()
            if turn < len(cases) and verdicts[name].found_by is None
        ]
        results = attempt(pairs) if pairs else {}
        for name, case in pairs:
            found = case if is_found(results[name, case]) else None
            verdicts[name] = WildVerdict(name, (*verdicts[name].tried, case), found)
    return list(verdicts.values())


def unreached(runs: Runs) -> list[str]:
    """The conditions that hold in no record of any case."""
    return [
        condition
        for condition in CONDITIONS
        if not any(wild.reaches(condition, run) for of_case in runs.values() for run in of_case)
    ]


def table(verdicts: Sequence[WildVerdict]) -> list[str]:
    """A row for each condition, a column for each rule: F found, . survived, - reached by no case, blank not tried."""
    names = {condition: number for number, condition in enumerate(CONDITIONS)}
    signs = {verdict.name: _sign(verdict) for verdict in verdicts}
    pairs = [verdict.name.split("+", 1) for verdict in verdicts]
    rules = [rule for rule in RULES if any(rule == used for used, _ in pairs)]
    conditions = sorted({used for _, used in pairs}, key=lambda used: (used not in names, names.get(used, 0), used))
    width = max(map(len, [*CONDITIONS, *conditions]))
    lines = [f"{number:>{width}} {rule}" for number, rule in enumerate(rules, 1)]
    lines.append(" " * width + "".join(f"{number:>3}" for number in range(1, len(rules) + 1)))
    for condition in conditions:
        cells = [signs.get(wild.joined(rule, condition), " ") for rule in rules]
        lines.append(f"{condition:<{width}}" + "".join(f"{cell:>3}" for cell in cells).rstrip())
    return lines


def _sign(verdict: WildVerdict) -> str:
    if verdict.found_by is not None:
        return "F"
    return "." if verdict.survived else "-"
