"""Broken in following lists of targets that come fast, and addresses that come back."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from harness.conformance.mutants import life
from harness.conformance.mutants.model import Mutant
from tapper.discovery.finders import Candidate
from tapper.following import Follower
from tapper.output.ndjson import Ndjson
from tapper.output.records import Place
from tapper.protocols.session import Sighting
from tapper.tap import Tap
from tapper.targets.file import TargetsFile
from tapper.targets.pods import Targets

_QUIET_S = 0.5
_LATER_S = 1.5
_STARTS = Path("/run/starts-of-a-mutant")  # in the node's own memory


def _not_so_fast() -> None:
    whole = TargetsFile.read
    last: list[tuple[float, Targets]] = []

    def unless_just_read(self: TargetsFile) -> Targets:
        fresh, now = whole(self), time.monotonic()
        kept = last[-1][1] if last and now - last[-1][0] < _QUIET_S else fresh
        last.append((now, kept))
        return kept

    TargetsFile.read = unless_just_read  # type: ignore[method-assign]


NOT_SO_FAST = Mutant(
    "not-so-fast",
    "A list of targets that comes right after another one it passes over.",
    {"LIFE-14": "expected requests inside a pod that is on the last list"},
    _not_so_fast,
)


def _acknowledge_first() -> None:
    whole, turn, glance = Follower.retarget, Tap._turn, Tap._retarget
    due: list[tuple[float, Any]] = []

    def later(_self: Follower, targets: Any) -> None:
        due.append((time.monotonic() + _LATER_S, targets))

    def turned(self: Tap) -> None:
        assert self._follower is not None
        while due and due[0][0] <= time.monotonic():
            whole(self._follower, due.pop(0)[1])
        turn(self)

    def retargeted(self: Tap) -> None:
        glance(self)
        self._acknowledge()

    Follower.retarget = later  # type: ignore[assignment,method-assign]
    Tap._turn = turned  # type: ignore[method-assign]
    Tap._retarget = retargeted  # type: ignore[method-assign]


ACKNOWLEDGES_FIRST = Mutant(
    "acknowledges-first",
    "It acknowledges a list of targets when it has read it, and does what it says a moment later.",
    {"LIFE-15": "not at all|nothing of what it was not asked for"},
    _acknowledge_first,
)


def _where_it_was() -> None:
    judge, take = Follower._judge, Follower._take
    homes: dict[object, object] = {}

    def at_home(self: Follower, candidate: Candidate) -> Any:
        return judge(self, candidate) if homes.get(candidate.claimed, candidate.netns) == candidate.netns else None

    def remember(self: Follower, wanted: Any, ring: Any) -> None:
        take(self, wanted, ring)
        if wanted.candidate.netns in self._sources:
            homes[wanted.candidate.claimed] = wanted.candidate.netns

    Follower._judge = at_home  # type: ignore[method-assign]
    Follower._take = remember  # type: ignore[method-assign]


WHERE_IT_WAS = Mutant(
    "where-it-was",
    "It remembers in which namespace an address was, and looks for it nowhere else.",
    {"LIFE-16": "expected requests inside a pod that has the address"},
    _where_it_was,
)


def _early_now_and_then() -> None:
    with _STARTS.open("a+") as starts:
        starts.write("x")
        starts.seek(0)
        if len(starts.read()) == 3:
            life.READY_TOO_EARLY.apply()


READY_BY_LUCK = Mutant(
    "ready-by-luck",
    "It says that it is ready before it is, once in three starts.",
    {"LIFE-01": "too seldom|not at all"},
    _early_now_and_then,
)


def _tell_again() -> None:
    told, source = Ndjson.sighting, Ndjson.source
    lines: list[str] = []
    opened: set[object] = set()

    def sighting(self: Ndjson, place: Place, sighting: Sighting) -> str:
        lines.append(told(self, place, sighting))
        return lines[-1]

    def again(self: Ndjson, state: str, place: Place) -> str:
        known = state == "open" and place.netns in opened
        opened.add(place.netns)
        return source(self, state, place) + ("".join(lines) if known else "")

    Ndjson.sighting = sighting  # type: ignore[method-assign]
    Ndjson.source = again  # type: ignore[method-assign]


TELLS_AGAIN = Mutant(
    "tells-again",
    "When it looks into a pod again it reports what it had seen there before once more.",
    {"LIFE-05": "too often"},
    _tell_again,
)


def _open_for_each_address() -> None:
    whole = TargetsFile.read
    known: set[object] = set()

    def leaking(self: TargetsFile) -> Targets:
        targets = whole(self)
        for _ in targets.addresses - known:
            os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        known.update(targets.addresses)
        return targets

    TargetsFile.read = leaking  # type: ignore[method-assign]


OPEN_FOR_EACH_ADDRESS = Mutant(
    "open-for-each-address",
    "It keeps a descriptor for every address that was ever a target.",
    {"LIFE-07": "about as many descriptors"},
    _open_for_each_address,
)
