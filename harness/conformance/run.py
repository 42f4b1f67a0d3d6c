"""Running one case: the one implementation behind the command, the workers, pytest and the cases in a cluster."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from harness.adapters.contract import Adapter
from harness.adapters.running import TapperFault
from harness.conformance import report_file
from harness.conformance.charges import convicted
from harness.conformance.model import Case, Charge, Outcome, Result
from harness.conformance.oracle import attribution
from harness.conformance.oracle.model import Difference
from harness.conformance.trial import Trial
from harness.conformance.verdict import NotClaimed, TapperDied, Violation, missed, set_aside
from harness.conformance.watched import Watched
from harness.errors import InternalError, Unsupported, WaitTimeout
from harness.waiting import wait_until

_DEATH_S = 1.0
"""A killed process can no longer be entered a little before it is known to be dead."""


class Performance(Protocol):
    """A case at work: a trial in the sandbox, or a scenario in a cluster."""

    taps: list[Watched[Any]]

    def play(self, case: Case) -> None:
        """Raises `Violation`, `NotClaimed`, `TapperFault` or `Unsupported`; anything else is the kit's fault."""

    def killed(self) -> list[str]:
        """The pods that the tapper killed, in words."""

    def impaired(self) -> str | None:
        """A sentence about a fault of the machine or the kit, for which a tapper may not be blamed; None without
        one."""

    def stop(self) -> None:
        """Stop the taps that the case has left running."""

    def differences(self, tap: Watched[Any]) -> Sequence[Difference]:
        """The differences between the report of a tapper and the recorded truth."""

    def save(self, result: Result, /) -> None:
        """Write the evidence."""


def run(case: Case, adapter: Adapter, directory: Path, patience: float = 1.0) -> Result:
    """Run a case in the sandbox; `directory` gets the evidence.

    Never raises for a fault of the tapper, of the machine or of the kit: the result tells.
    """
    return set_aside(case, adapter) or carry_out(case, directory, lambda: Trial(adapter, directory, patience))


def carry_out(case: Case, directory: Path, begin: Callable[[], AbstractContextManager[Performance]]) -> Result:
    """Begin a performance of the case, play it, judge it and save the evidence. Never raises."""
    started = time.monotonic()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with begin() as performance:
            result = _judged(case, directory, performance)
    except Unsupported as error:
        result = Result(case.id, Outcome.BLOCKED, str(error))
    except Exception as error:
        result = broken(case, directory, error)
    return replace(result, seconds=time.monotonic() - started, evidence=directory.name)


def broken(case: Case, directory: Path, error: Exception) -> Result:
    """A fault of the kit, which is reported as such and never counted for or against a tapper."""
    report_file.keep_error(directory, "".join(traceback.format_exception(error)))
    return Result(case.id, Outcome.ERROR, f"{type(error).__name__}: {error}")


def _judged(case: Case, directory: Path, performance: Performance) -> Result:
    # 1. Play the case.
    result = _played(case, directory, performance)
    try:
        # 2. Stop the tapper: only then its output is complete.
        performance.stop()
        notes = dict.fromkeys(note for tap in performance.taps for note in tap.notes())
        result = replace(result, notes=tuple(notes))
        # 3. See whether it killed a pod after the case had seen enough of it.
        killed = performance.killed() if result.outcome is Outcome.PASS else []
        if killed:
            result = replace(_killer(case, killed), notes=result.notes)
        # 4. Compare everything else that it reported with the truth. After a failure the other differences are
        #    consequences of it.
        if result.outcome is Outcome.PASS:
            result = _with_charges(case, performance, result)
        # 5. Save the evidence.
        performance.save(result)
    except Exception as error:
        result = broken(case, directory, error)
    # 6. Nobody is blamed where the machine has failed.
    if result.outcome not in (Outcome.PASS, Outcome.NOT_CLAIMED, Outcome.BLOCKED):
        impaired = performance.impaired()
        if impaired is not None:
            return Result(case.id, Outcome.BLOCKED, impaired)
    return result


def _played(case: Case, directory: Path, performance: Performance) -> Result:
    try:
        performance.play(case)
        if not sum(tap.checks for tap in performance.taps):
            raise InternalError(f"{case.id} ended without having looked at anything")
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
        return _blamed(case, performance) or broken(case, directory, error)
    return Result(case.id, Outcome.PASS)


def _blamed(case: Case, performance: Performance) -> Result | None:
    """A failure for a tapper that killed processes of others, which looks like a fault of the kit at first."""
    if not performance.taps:
        return None
    try:
        return _killer(case, wait_until(performance.killed, "a pod to be dead", _DEATH_S))
    except WaitTimeout:
        return None


def _killer(case: Case, killed: list[str]) -> Result:
    expected, seen = "processes of others left alone", f"those of {', '.join(killed)} were killed"
    return Result(case.id, Outcome.FAIL, f"expected {expected}; seen: {seen}", expected=expected, seen=seen)


def _with_charges(case: Case, performance: Performance, result: Result) -> Result:
    """Differences that are this case's business fail it; differences that are another case's become charges."""
    found: list[Charge] = []
    for tap in performance.taps:
        found += attribution.charges(case.id, performance.differences(tap), tap.shown())
    own = [charge for charge in found if charge.cases[0] == case.id]
    result = replace(result, charges=tuple(charge for charge in found if charge not in own))
    return convicted(case, result, own[:1]) if own else result
