"""Running one case: the one implementation behind the command, the workers and pytest."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from harness.adapters.contract import Adapter
from harness.adapters.running import TapperFault
from harness.conformance.charges import convicted
from harness.conformance.model import Case, Charge, Outcome, Result
from harness.conformance.oracle import attribution
from harness.conformance.trial import Trial
from harness.conformance.verdict import NotClaimed, TapperDied, Violation, missed, set_aside
from harness.errors import InternalError, Unsupported, WaitTimeout
from harness.waiting import wait_until

_DEATH_S = 1.0
"""Who is killed cannot be entered any longer a little before it is known to be dead."""


def run(case: Case, adapter: Adapter, directory: Path, patience: float = 1.0) -> Result:
    """Run a case and say what became of it. Never raises for what the tapper, the machine or the kit did wrong.

    `directory` gets the evidence.
    """
    aside = set_aside(case, adapter)
    if aside is not None:
        return aside
    directory.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        with Trial(adapter, directory, patience) as trial:
            result = _try(case, trial)
    except Unsupported as error:
        result = Result(case.id, Outcome.BLOCKED, str(error))
    except Exception as error:
        result = broken(case, directory, error)
    return replace(result, seconds=time.monotonic() - started, evidence=directory.name)


def attempt(
    case: Case, directory: Path, play: Callable[[], None], blame: Callable[[], Result | None] = lambda: None
) -> Result:
    """Play a case, and say what became of it. `blame` may know, of what looks like the kit's own fault, whose it is."""
    try:
        play()
    except Violation as violation:
        outcome = Outcome.FAIL if isinstance(violation, TapperDied) else missed(case)
        return Result(case.id, outcome, str(violation), expected=violation.expected, seen=violation.seen)
    except NotClaimed as nothing:
        return Result(case.id, Outcome.NOT_CLAIMED, str(nothing))
    except TapperFault as fault:
        return Result(case.id, Outcome.FAIL, str(fault), expected=fault.expected, seen=fault.seen)
    except Unsupported as error:
        return Result(case.id, Outcome.BLOCKED, str(error))
    except Exception as error:
        return blame() or broken(case, directory, error)
    return Result(case.id, Outcome.PASS)


def broken(case: Case, directory: Path, error: Exception) -> Result:
    """The kit's own fault, which is told as such and never counted for or against a tapper."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "kit-error.txt").write_text("".join(traceback.format_exception(error)))
    return Result(case.id, Outcome.ERROR, f"{type(error).__name__}: {error}")


def _try(case: Case, trial: Trial) -> Result:
    def play() -> None:
        case.function(trial)
        if not trial.checks:
            raise InternalError(f"{case.id} ended without having looked at anything")

    def dead() -> list[str]:
        return [pod.name for pod in trial.node.pods.values() if not (pod.alive or pod.deleted)]

    def blame() -> Result | None:
        if not trial.taps:
            return None
        try:
            killed = wait_until(dead, "a pod to be dead", _DEATH_S)
        except WaitTimeout:
            return None
        # nobody else is in the node
        expected, seen = "processes of others left alone", f"those of pod {', '.join(killed)} were killed"
        return Result(case.id, Outcome.FAIL, f"expected {expected}; seen: {seen}", expected=expected, seen=seen)

    result = attempt(case, trial.directory, play, blame)
    try:
        for tap in trial.taps:
            tap.stop()
        result = replace(result, notes=trial.notes())
        if result.outcome is Outcome.PASS:  # what has failed by itself explains what else is wrong there
            result = _with_charges(case, trial, result)
        trial.save()
    except Exception as error:
        result = broken(case, trial.directory, error)
    return result


def _with_charges(case: Case, trial: Trial, result: Result) -> Result:
    """What the oracle says besides: of this very case a failure, of others charges."""
    found: list[Charge] = []
    for tap in trial.taps:
        found += attribution.charges(case.id, trial.differences(tap), tap.shown())
    own = [charge for charge in found if charge.cases[0] == case.id]
    result = replace(result, charges=tuple(charge for charge in found if charge not in own))
    return convicted(case, result, own[0]) if own else result
