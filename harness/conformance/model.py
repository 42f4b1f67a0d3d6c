"""The plain data of the kit: cases, levels, features, profiles, outcomes, results. No I/O."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self, TypeVar

from harness.adapters.contract import Feature

TrialT = TypeVar("TrialT")
"""The kit's `Trial`, which this plain data does not know."""
CASE_ID = re.compile(r"[A-Z]+-\d\d")


class Level(enum.StrEnum):
    """How strongly a requirement binds (RFC 2119)."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    MAY = "MAY"


class Profile(enum.StrEnum):
    """The purpose of a tapper. It claims a profile by claiming the feature of the same meaning."""

    PACKET = "TAP-PACKET"
    HTTP1 = "TAP-HTTP1"
    HTTP2 = "TAP-HTTP2"
    MESH = "TAP-MESH"
    TLS = "TAP-TLS"

    @property
    def feature(self) -> Feature:
        return _CLAIMED_BY[self]

    def includes(self, case: Case) -> bool:
        """Whether the case belongs to this profile: it needs no feature beyond it."""
        if self in _GROUP_OF or case.group in _GROUP_OF.values():
            return _GROUP_OF.get(self) == case.group
        decoding = case.features & _DECODING
        return decoding <= _DECODED_BY[self]


MESH_GROUP = "MESH"
"""The group of the cases in a mesh of real sidecars. They are run on request."""
_CLAIMED_BY = {
    Profile.PACKET: Feature.PACKETS,
    Profile.HTTP1: Feature.HTTP1,
    Profile.HTTP2: Feature.HTTP2,
    Profile.MESH: Feature.DISCOVERY_ENVOY,
    Profile.TLS: Feature.TLS,
}
_GROUP_OF = {Profile.MESH: MESH_GROUP, Profile.TLS: "TLS"}
"""The profiles that are one group of cases, which belongs to no other profile."""
_DECODING = {Feature.HTTP1, Feature.HTTP2, Feature.GRPC, Feature.WEBSOCKET, Feature.STREAMING, Feature.REDACTION}
_DECODED_BY = {
    Profile.PACKET: set[Feature](),
    Profile.HTTP1: {Feature.HTTP1, Feature.WEBSOCKET, Feature.STREAMING, Feature.REDACTION},
    Profile.HTTP2: _DECODING,
}


class Outcome(enum.StrEnum):
    """The outcome of a case. The report has one for every case of the catalogue."""

    PASS = "pass"
    FAIL = "fail"
    NON_STRICT = "non-strict"
    """A SHOULD that is missed."""
    NOT_CLAIMED = "not-claimed"
    DELEGATED = "delegated"
    """The kit did the task that the case is about, because the adapter asked for it."""
    EXEMPT = "exempt"
    """The adapter leaves it out, with a reason."""
    BLOCKED = "blocked"
    """The environment lacks something; the sentence says what."""
    TIMEOUT = "timeout"
    ERROR = "error"
    """The kit's own fault."""
    DESELECTED = "deselected"
    """This run was not asked for it."""


FAILED = frozenset({Outcome.FAIL, Outcome.TIMEOUT})
INCOMPLETE = frozenset({Outcome.DELEGATED, Outcome.EXEMPT, Outcome.BLOCKED, Outcome.ERROR, Outcome.DESELECTED})


@dataclass(frozen=True, slots=True)
class Case:
    """One requirement and the experiment that tries it. Made by the decorator `case`; ids are permanent."""

    id: str
    level: Level
    source: str
    """The origin of the requirement: a document's section, a kernel's behaviour, a known bug."""
    function: Callable[[Any], None]
    """The experiment; it gets a `harness.conformance.trial.Trial`."""
    features: frozenset[Feature] = frozenset()
    """The features that a tapper has to claim; otherwise the case is not about it."""
    discovery: bool = False
    """Whether the case is about finding pods. An adapter may leave that to the kit."""
    real_envoy: bool = False
    """Whether the case needs real sidecars."""
    scenario: Callable[[Any], None] | None = None
    """The experiment in a mesh of real sidecars; it gets a `harness.conformance.mesh.stage.Stage`."""
    needs: tuple[str, ...] = ()
    """The needs of that world, in the words of `harness.worlds.model.NEEDS`."""
    extra_s: float = 0.0
    """The additional time that it may take, in seconds. Such a case is run on request."""
    shorter: Callable[[Any], None] | None = None
    """A form of a long case that takes a few seconds, for the kit's own tests."""

    @property
    def group(self) -> str:
        return self.id.partition("-")[0]

    @property
    def requirement(self) -> str:
        """The requirement, in one sentence."""
        return " ".join(self.text.partition("\n\n")[0].split())

    @property
    def explanation(self) -> str:
        """The reason for the requirement, and the experiment."""
        return self.text.partition("\n\n")[2].strip()

    @property
    def long(self) -> bool:
        """Whether the case takes longer than the usual limit."""
        return self.extra_s > 0

    def shortened(self) -> Case:
        """The case in a form that is short enough for the kit's own tests."""
        return replace(self, function=self.shorter, extra_s=0.0) if self.shorter is not None else self

    @property
    def text(self) -> str:
        return inspect.getdoc(self.function) or ""

    @property
    def profiles(self) -> tuple[Profile, ...]:
        return tuple(profile for profile in Profile if profile.includes(self))


def case(
    identifier: str,
    level: Level,
    source: str,
    *,
    features: frozenset[Feature] | set[Feature] = frozenset(),
    discovery: bool = False,
    real_envoy: bool = False,
    extra_s: float = 0.0,
    shorter: Callable[[TrialT], None] | None = None,
) -> Callable[[Callable[[TrialT], None]], Case]:
    """Turn a function into a `Case`. Its docstring is the documentation; the first paragraph is the requirement."""
    if not CASE_ID.fullmatch(identifier):
        raise ValueError(f"{identifier} is not a case id like CAP-01")

    def make(function: Callable[[TrialT], None]) -> Case:
        return Case(
            identifier,
            level,
            source,
            function,
            frozenset(features),
            discovery,
            real_envoy,
            extra_s=extra_s,
            shorter=shorter,
        )

    return make


@dataclass(frozen=True, slots=True)
class Charge:
    """A difference between report and truth that is the business of another case than the one in which it was seen."""

    cases: tuple[str, ...]
    """The cases in question: first the one about the wrong field, last the one about the circumstances."""
    seen_in: str
    """The case in whose trial it was seen, and in whose folder the evidence lies."""
    expected: str
    seen: str
    fault: str = ""
    """The kind of fault: `missing`, `repeated`, or the case about the wrong field. Charges of one kind are settled
    together."""
    everywhere: bool = False
    """Whether nearly every exchange of that trial was wrong in this way, so that the circumstances explain nothing."""

    @property
    def sentence(self) -> str:
        return f"expected {self.expected}; seen: {self.seen}"


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one case with one adapter, and its reasons."""

    case: str
    outcome: Outcome
    sentence: str = ""
    """The reason for every outcome but `pass`."""
    expected: str = ""
    seen: str = ""
    seconds: float = 0.0
    evidence: str | None = None
    """The folder of the evidence, relative to the report's."""
    notes: tuple[str, ...] = field(default=())
    """Faults that do not violate this case."""
    charges: tuple[Charge, ...] = ()
    """Differences in this case's trial that are another case's business; empty once a run has settled them."""

    def plain(self) -> dict[str, Any]:
        """Data for JSON and YAML."""
        charges = [asdict(charge) | {"cases": list(charge.cases)} for charge in self.charges]
        return asdict(self) | {"outcome": self.outcome.value, "notes": list(self.notes), "charges": charges}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `plain`. Raises `TypeError` or `ValueError` for other data."""
        charges = tuple(Charge(**{**each, "cases": tuple(each["cases"])}) for each in plain.get("charges", ()))
        known = {"outcome": Outcome(plain["outcome"]), "notes": tuple(plain["notes"]), "charges": charges}
        return cls(**{**plain, **known})
