"""From a trial to the outcome of its case, and from outcomes to the verdict on a profile. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from harness.adapters.contract import Adapter
from harness.conformance.model import FAILED, INCOMPLETE, Case, Level, Outcome, Result
from harness.errors import HarnessError


class Violation(HarnessError):
    """The tapper under test does not do what a case requires."""

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(f"expected {expected}; seen: {seen}")
        self.expected = expected
        self.seen = seen


class NotClaimed(HarnessError):
    """A case is about a property that the adapter does not claim; the sentence says which."""


class TapperDied(Violation):
    """The tapper ended before it was asked to."""


class Late(Violation):
    """The tapper did not do something within the kit's time limit."""


class ProfileVerdict(enum.StrEnum):
    """The verdict on a profile."""

    SUCCESS = "success"
    PARTIAL = "partial"
    FAILURE = "failure"
    NOT_CLAIMED = "not-claimed"

    @property
    def meaning(self) -> str:
        """In a few words."""
        return _MEANINGS[self]


_MEANINGS = {
    ProfileVerdict.SUCCESS: "every core case was tried and passed",
    ProfileVerdict.PARTIAL: "nothing failed, but core cases were not tried",
    ProfileVerdict.FAILURE: "a core case failed, or the tapper hung or crashed",
    ProfileVerdict.NOT_CLAIMED: "the adapter does not claim it",
}


def set_aside(case: Case, adapter: Adapter) -> Result | None:
    """The result of a case that need not be run; None if it has to be run."""
    if case.discovery and adapter.delegates_discovery:
        return Result(case.id, Outcome.DELEGATED, "the kit tells this tapper where its targets are")
    missing = sorted(case.features - adapter.claims)
    if missing:
        return Result(case.id, Outcome.NOT_CLAIMED, f"the adapter does not claim {', '.join(missing)}")
    exemption = adapter.exempt.get(case.id)
    if exemption is not None:
        return Result(case.id, Outcome.EXEMPT, f"{exemption.reason} ({exemption.url})")
    return None


def missed(case: Case) -> Outcome:
    """The outcome of a violated requirement."""
    return Outcome.FAIL if case.level is Level.MUST else Outcome.NON_STRICT


def of(outcomes: Iterable[tuple[Level, Outcome]]) -> ProfileVerdict:
    """The verdict on a claimed profile, from the levels and outcomes of its cases.

    `failure` on any failed MUST, timeout or crash; `partial` if a MUST was not tried; else `success`.
    """
    known = list(outcomes)
    if any(outcome in FAILED for _, outcome in known):
        return ProfileVerdict.FAILURE
    core = [outcome for level, outcome in known if level is Level.MUST]
    return ProfileVerdict.PARTIAL if any(outcome in INCOMPLETE for outcome in core) else ProfileVerdict.SUCCESS
