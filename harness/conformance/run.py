"""Running one case: the one implementation behind the command, the workers and pytest."""

from __future__ import annotations

import time
import traceback
from dataclasses import replace
from pathlib import Path

from harness.adapters.contract import Adapter
from harness.conformance.model import Case, Outcome, Result
from harness.conformance.trial import Trial
from harness.conformance.verdict import NotClaimed, TapperDied, Violation, missed, set_aside
from harness.errors import InternalError, Unsupported


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
        result = _broken(case, directory, error)
    return replace(result, seconds=time.monotonic() - started, evidence=directory.name)


def _try(case: Case, trial: Trial) -> Result:
    try:
        case.function(trial)
        if not trial.checks:
            raise InternalError(f"{case.id} ended without having looked at anything")
        result = Result(case.id, Outcome.PASS)
    except Violation as violation:
        outcome = Outcome.FAIL if isinstance(violation, TapperDied) else missed(case)
        result = Result(case.id, outcome, str(violation), expected=violation.expected, seen=violation.seen)
    except NotClaimed as nothing:
        result = Result(case.id, Outcome.NOT_CLAIMED, str(nothing))
    except Unsupported as error:
        result = Result(case.id, Outcome.BLOCKED, str(error))
    except Exception as error:
        result = _broken(case, trial.directory, error)
    try:
        for tap in trial.taps:
            if tap.ending is None:
                tap.ending = tap.under_test.stop(trial.patience)
        result = replace(result, notes=trial.notes())
        trial.save()
    except Exception as error:
        result = _broken(case, trial.directory, error)
    return result


def _broken(case: Case, directory: Path, error: Exception) -> Result:
    """The kit's own fault, which is told as such and never counted for or against a tapper."""
    (directory / "kit-error.txt").write_text("".join(traceback.format_exception(error)))
    return Result(case.id, Outcome.ERROR, f"{type(error).__name__}: {error}")
