"""From charges, which are faults seen in the trial of another case, to the outcomes of a run. Pure.

The outcomes are known only after the last case: a wrong field in the trial of one case fails the case that is about the
field, unless that case has failed by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from harness.conformance.model import FAILED, Case, Charge, Outcome, Result
from harness.conformance.verdict import missed

_OVER = FAILED | {Outcome.NON_STRICT}
"""Outcomes of a case that has found its own fault."""
_ASIDE = frozenset({Outcome.NOT_CLAIMED, Outcome.EXEMPT, Outcome.DELEGATED, Outcome.BLOCKED, Outcome.ERROR})
"""Outcomes that no charge changes: the case is not about this tapper, or was not tried."""


def settled(cases: Mapping[str, Case], results: Mapping[str, Result]) -> dict[str, Result]:
    """The results of a run, with every charge applied to the case that it is about.

    `cases` is the catalogue; `results` has every case, deselected ones included. A charge is dropped if a case that it
    names has failed by itself, or is not about this tapper; it becomes a note if the run was not asked for that case.
    """
    after = {name: replace(result, charges=()) for name, result in results.items()}
    for result in results.values():
        for charge in result.charges:
            if any(name in results and results[name].outcome in _OVER for name in charge.cases):
                continue
            _bring(charge, cases, after)
    return after


def _bring(charge: Charge, cases: Mapping[str, Case], after: dict[str, Result]) -> None:
    name = charge.cases[0] if charge.everywhere else charge.cases[-1]
    accused = after.get(name)
    if accused is not None and accused.outcome in _ASIDE:
        return
    if accused is None or accused.outcome is Outcome.DESELECTED:
        witness = after[charge.seen_in]
        after[charge.seen_in] = replace(witness, notes=(*witness.notes, f"it breaks {name}: {charge.sentence}"))
    elif accused.outcome is Outcome.PASS:
        after[name] = convicted(cases[name], accused, charge)


def convicted(case: Case, result: Result, charge: Charge) -> Result:
    """The result of a case that fails by a charge. Its evidence is that of the case in which the fault was seen."""
    elsewhere = "" if charge.seen_in == case.id else f", seen in the trial of {charge.seen_in}"
    seen = f"{charge.seen}{elsewhere}"
    return replace(
        result,
        outcome=missed(case),
        sentence=f"expected {charge.expected}; seen: {seen}",
        expected=charge.expected,
        seen=seen,
        evidence=charge.seen_in if elsewhere else result.evidence,
    )
