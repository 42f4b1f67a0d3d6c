"""The words of the kit: cases, levels, features, profiles, outcomes, results. Plain data, no I/O."""

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
    """What a tapper is for. It claims a profile by claiming the feature of the same meaning."""

    PACKET = "TAP-PACKET"
    HTTP1 = "TAP-HTTP1"
    HTTP2 = "TAP-HTTP2"
    MESH = "TAP-MESH"

    @property
    def feature(self) -> Feature:
        return _CLAIMED_BY[self]

    def includes(self, case: Case) -> bool:
        """Whether the case belongs to this profile: it asks for nothing that the profile is not about."""
        if self is Profile.MESH or case.group == MESH_GROUP:
            return self is Profile.MESH and case.group == MESH_GROUP
        decoding = case.features & _DECODING
        return decoding <= _DECODED_BY[self]


MESH_GROUP = "MESH"
"""The group of the cases that play in a mesh of real sidecars. They are run where they are asked for."""
_CLAIMED_BY = {
    Profile.PACKET: Feature.PACKETS,
    Profile.HTTP1: Feature.HTTP1,
    Profile.HTTP2: Feature.HTTP2,
    Profile.MESH: Feature.DISCOVERY_ENVOY,
}
_DECODING = {Feature.HTTP1, Feature.HTTP2, Feature.GRPC, Feature.WEBSOCKET, Feature.REDACTION}
_DECODED_BY = {
    Profile.PACKET: set[Feature](),
    Profile.HTTP1: {Feature.HTTP1, Feature.WEBSOCKET, Feature.REDACTION},
    Profile.HTTP2: _DECODING,
}


class Outcome(enum.StrEnum):
    """What became of a case. There is no other end: the report holds every case of the catalogue."""

    PASS = "pass"
    FAIL = "fail"
    NON_STRICT = "non-strict"
    """A SHOULD that is missed."""
    NOT_CLAIMED = "not-claimed"
    DELEGATED = "delegated"
    """The kit did what the case is about, because the adapter asked for it."""
    EXEMPT = "exempt"
    """Left out on the adapter's word, with its reason."""
    BLOCKED = "blocked"
    """The environment lacks something; the sentence says what."""
    TIMEOUT = "timeout"
    ERROR = "error"
    """The kit's own fault."""
    DESELECTED = "deselected"
    """Not asked for in this run."""


FAILED = frozenset({Outcome.FAIL, Outcome.TIMEOUT})
INCOMPLETE = frozenset({Outcome.DELEGATED, Outcome.EXEMPT, Outcome.BLOCKED, Outcome.ERROR, Outcome.DESELECTED})


@dataclass(frozen=True, slots=True)
class Case:
    """One requirement and the experiment that tries it. Made by the decorator `case`; ids are permanent."""

    id: str
    level: Level
    source: str
    """Where the requirement comes from: a document's section, a kernel's behaviour, a bug somebody had."""
    function: Callable[[Any], None]
    """The experiment; it gets a `harness.conformance.trial.Trial`."""
    features: frozenset[Feature] = frozenset()
    """All have to be claimed, or the case is not about this tapper."""
    discovery: bool = False
    """Whether it is about finding pods, which an adapter may leave to the kit."""
    real_envoy: bool = False
    """Whether real sidecars run in it."""
    scenario: Callable[[Any], None] | None = None
    """The experiment in a mesh of real sidecars; it gets a `harness.conformance.mesh.stage.Stage`."""
    needs: tuple[str, ...] = ()
    """What that world has to have, in the words of `harness.worlds.model.NEEDS`."""
    extra_s: float = 0.0
    """How much longer than any other case it may take, in seconds. Such a case is run where it is asked for."""
    shorter: Callable[[Any], None] | None = None
    """The same in a few seconds, of a case that takes longer than any other may: the kit's own tests run that."""

    @property
    def group(self) -> str:
        return self.id.partition("-")[0]

    @property
    def requirement(self) -> str:
        """The requirement, in one sentence."""
        return " ".join(self.text.partition("\n\n")[0].split())

    @property
    def explanation(self) -> str:
        """Why, and how it is tried."""
        return self.text.partition("\n\n")[2].strip()

    @property
    def long(self) -> bool:
        """Whether it takes longer than any other case may."""
        return self.extra_s > 0

    def shortened(self) -> Case:
        """The same case at a length at which the kit's own tests can run it."""
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
    """A difference between report and truth that another case may be about than the one in which it was seen."""

    cases: tuple[str, ...]
    """The cases that come into question: the one about what is wrong first, the one about the circumstances last."""
    seen_in: str
    """The case in whose trial it was seen, and in whose folder the evidence lies."""
    expected: str
    seen: str
    everywhere: bool = False
    """Whether it was so with nearly everything in that trial, so that the circumstances explain nothing."""

    @property
    def sentence(self) -> str:
        return f"expected {self.expected}; seen: {self.seen}"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one case with one adapter."""

    case: str
    outcome: Outcome
    sentence: str = ""
    """Why, for every outcome but `pass`."""
    expected: str = ""
    seen: str = ""
    seconds: float = 0.0
    evidence: str | None = None
    """The folder, relative to the report's."""
    notes: tuple[str, ...] = field(default=())
    """What was noticed besides: bad manners that are no violation of this case."""
    charges: tuple[Charge, ...] = ()
    """What the oracle saw in this case's trial and is another case's affair; none once a run has settled them."""

    def plain(self) -> dict[str, Any]:
        """As JSON and YAML can hold it."""
        charges = [asdict(charge) | {"cases": list(charge.cases)} for charge in self.charges]
        return asdict(self) | {"outcome": self.outcome.value, "notes": list(self.notes), "charges": charges}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `plain`. Raises `TypeError` or `ValueError` for what is no result."""
        charges = tuple(Charge(**{**each, "cases": tuple(each["cases"])}) for each in plain.get("charges", ()))
        known = {"outcome": Outcome(plain["outcome"]), "notes": tuple(plain["notes"]), "charges": charges}
        return cls(**{**plain, **known})
