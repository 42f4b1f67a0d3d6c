"""Whether the cases for a mutant find it, for the expected reason. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from harness.conformance.model import Case, Outcome, Result
from harness.conformance.mutants.model import Mutant
from harness.worlds.model import lacking
from harness.worlds.sandbox import SandboxWorld

_FOUND = frozenset({Outcome.FAIL, Outcome.NON_STRICT})


def complaint(mutant: Mutant, result: Result) -> str | None:
    """The fault in a result of a case for this mutant; None if the case has found it.

    A case that passed by itself has found the mutant, too, if the oracle noticed it in the case's trial.
    """
    found = result.outcome in _FOUND
    reasons = [result.sentence] if found else [charge.sentence for charge in result.charges]
    if not reasons:
        why = f": {result.sentence}" if result.sentence else ""
        return f"{result.case} was made to fail {mutant.name}, and ends with {result.outcome}{why}"
    wanted = mutant.breaks[result.case]
    if not any(re.search(wanted, reason) for reason in reasons):
        return f"{result.case} fails {mutant.name}, but not for {wanted!r}: {'; '.join(reasons)}"
    return None


def without_mutant(cases: Iterable[Case], mutants: Iterable[Mutant]) -> list[str]:
    """The cases without a mutant: nothing shows that they can fail.

    Mutants are run in the sandbox, so a case that needs a cluster has none.
    """
    broken = {case for mutant in mutants for case in mutant.breaks}
    here = SandboxWorld.capabilities
    return [case.id for case in cases if case.id not in broken and not lacking(here, case.needs)]
