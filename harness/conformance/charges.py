"""From charges, which are faults seen in the trial of another case, to the outcomes of a run. Pure.

The outcomes are known only after the last case. Charges of one fault are taken together, since the trials in which it
was seen tell where it occurs: one that was seen in HTTP/2 alone is the business of the case about HTTP/2, and one that
was seen everywhere is the business of the case about the field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from harness.conformance.model import FAILED, Case, Charge, Outcome, Result
from harness.conformance.verdict import missed

_OVER = FAILED | {Outcome.NON_STRICT}
"""Outcomes of a case that has found its own fault."""
_ASIDE = frozenset({Outcome.NOT_CLAIMED, Outcome.EXEMPT, Outcome.DELEGATED, Outcome.BLOCKED, Outcome.ERROR})
"""Outcomes that no charge changes: the case is not about this tapper, or was not tried."""
_ORDINARY = "GEN"
"""The group whose cases all play the same kinds of exchange: one of them is enough to tell a fault."""
_TRIALS_NAMED = 3


def settled(cases: Mapping[str, Case], results: Mapping[str, Result]) -> dict[str, Result]:
    """The results of a run, with every charge applied to the case that it is about.

    `cases` is the catalogue; `results` has every case, deselected ones included. A charge is dropped if a case that it
    names has failed by itself, or is not about this tapper; it becomes a note if the run was not asked for that case.
    """
    after = {name: replace(result, charges=()) for name, result in results.items()}
    by_fault: dict[str, list[Charge]] = {}
    for result in results.values():
        for charge in result.charges:
            if not any(name in results and results[name].outcome in _OVER for name in charge.cases):
                by_fault.setdefault(charge.fault, []).append(charge)
    for charges in by_fault.values():
        for name, of_case in _accused(charges):
            _bring(name, of_case, cases, after)
    return after


def _accused(charges: Sequence[Charge]) -> Iterator[tuple[str, Sequence[Charge]]]:
    """The cases that fail by the charges of one fault: the narrowest that all of them name, or one for each trial."""
    common = [name for name in charges[0].cases if all(name in charge.cases for charge in charges)]
    if common:
        yield common[0 if all(charge.everywhere for charge in charges) else -1], charges
        return
    by_case: dict[str, list[Charge]] = {}
    for charge in charges:
        by_case.setdefault(charge.cases[0 if charge.everywhere else -1], []).append(charge)
    ordinary = [name for name in by_case if name.startswith(_ORDINARY)]
    for name, of_case in by_case.items():
        if name not in ordinary[1:]:
            yield name, of_case


def _bring(name: str, charges: Sequence[Charge], cases: Mapping[str, Case], after: dict[str, Result]) -> None:
    accused = after.get(name)
    if accused is not None and accused.outcome in _ASIDE:
        return
    if accused is None or accused.outcome is Outcome.DESELECTED:
        charge = charges[0]
        witness = after[charge.seen_in]
        after[charge.seen_in] = replace(witness, notes=(*witness.notes, f"it breaks {name}: {charge.sentence}"))
    elif accused.outcome is Outcome.PASS:
        after[name] = convicted(cases[name], accused, charges)


def convicted(case: Case, result: Result, charges: Sequence[Charge]) -> Result:
    """The result of a case that fails by charges of one fault. Its evidence is that of the case in which the fault was
    seen: its own trial, if that is one of them, else the first."""
    charge = next((charge for charge in charges if charge.seen_in == case.id), charges[0])
    trials = list(dict.fromkeys(charge.seen_in for charge in charges))
    elsewhere = "" if charge.seen_in == case.id else f", seen in {_in_words(trials)}"
    seen = f"{charge.seen}{elsewhere}"
    return replace(
        result,
        outcome=missed(case),
        sentence=f"expected {charge.expected}; seen: {seen}",
        expected=charge.expected,
        seen=seen,
        evidence=charge.seen_in if elsewhere else result.evidence,
    )


def _in_words(trials: Sequence[str]) -> str:
    if len(trials) == 1:
        return f"the trial of {trials[0]}"
    named, others = trials[: _TRIALS_NAMED - 1], trials[_TRIALS_NAMED - 1 :]
    last = others[0] if len(others) == 1 else f"{len(others)} others"
    return f"the trials of {', '.join(named)} and {last}"
