"""A single plan as a case, which is not in the catalogue: any wrong record fails it."""

from __future__ import annotations

from dataclasses import replace

from harness.conformance.generated.plan import Plan
from harness.conformance.generated.play import play
from harness.conformance.model import Case, Level, Outcome, Result
from harness.conformance.trial import Trial

ID = "PLAN-00"


def case_of(plan: Plan) -> Case:
    def function(trial: Trial) -> None:
        """A tapper MUST report a planned conversation as it was.

        The plan was drawn, or written by hand.
        """
        play(trial, plan)

    return Case(ID, Level.MUST, "check --plan", function, features=plan.features)


def judged(result: Result) -> Result:
    """The result, which fails with the oracle's first charge: the run has no other case that the charge could fail."""
    if result.outcome is not Outcome.PASS or not result.charges:
        return result
    charge = result.charges[0]
    more = f" (and {len(result.charges) - 1} more)" if len(result.charges) > 1 else ""
    sentence = f"{charge.sentence}, which is what {charge.cases[0]} is about{more}"
    return replace(result, outcome=Outcome.FAIL, sentence=sentence, expected=charge.expected, seen=charge.seen)
