"""Drawing plans: a number of them from a seed, and the ones that ship.

python -m harness.conformance.generated.drawing FOLDER  draws the plans that ship again, into a folder (script/plans)

The files in `plans/` are the truth, and not their seed: another version of hypothesis draws other plans from the same
seed, and so does a change of the strategies.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from harness.conformance.generated import pairs, writing
from harness.conformance.generated.plan import (
    BURST,
    ENVOY_RETURNS,
    PLAIN_CUT,
    POD_JOINS,
    POD_LEAVES,
    Happening,
    Plan,
    Segmentation,
    Talk,
)
from harness.conformance.generated.plan_file import to_json
from harness.conformance.generated.strategies import THEMES

_SEED = 20_261_130
_DRAWN = 60
_MOST_TALKS, _MOST_TURNS, _MOST_EXCHANGES = 14, 1500, 300
_MOST_BYTES = 3 << 20
_HAPPENINGS = (
    Happening(ENVOY_RETURNS, 1, 150),
    Happening(POD_JOINS, 3, 300),
    Happening(BURST, 2, 450),
    Happening(POD_LEAVES, 2, 600),
    Happening(ENVOY_RETURNS, 1, 700),
    Happening(POD_JOINS, 2, 800),
)
_NOT_DRAWN = "pairs"
_SPREAD: Mapping[str, tuple[int, tuple[Happening, ...]]] = {"pods": (5, ()), "lives": (4, _HAPPENINGS)}
"""By theme: the number of pods among which its connections are shared out, and the changes of these pods."""


def drawn(strategy: SearchStrategy[Plan], number: int, count: int) -> list[Plan]:
    """At most `count` plans, drawn with a seed; fewer if the strategy has no more."""
    found: list[Plan] = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw(plan: Plan) -> None:
        found.append(plan)

    draw()
    return found


def main(folder: Path) -> None:
    """Write a plan for each theme."""
    (folder / f"{pairs.NAME}.json").write_text(to_json(pairs.plan()))
    for theme in THEMES.keys() - {_NOT_DRAWN}:
        plan = _together(drawn(THEMES[theme].draw(), _SEED, _DRAWN))
        if theme in _SPREAD:
            plan = _spread(plan, *_SPREAD[theme])
        plan = replace(plan, name=f"{theme}-1")
        (folder / f"{plan.name}.json").write_text(to_json(plan))


def _spread(plan: Plan, pods: int, happenings: tuple[Happening, ...]) -> Plan:
    """Share out the connections among so many pods. The bytes of every other connection are cut into packets."""
    cut = Segmentation(cut=PLAIN_CUT)
    talks = tuple(
        replace(talk, pod=number % pods, segments=cut if number % 2 else talk.segments)
        for number, talk in enumerate(plan.talks)
    )
    return replace(plan, pods=pods, talks=talks, happenings=happenings)


def _together(plans: Iterable[Plan]) -> Plan:
    """One plan with connections of many plans: some of each kind, and no more than can be played in a second."""
    chosen: list[Talk] = []
    turns = exchanges = size = 0
    for drawn_talk in _by_variety(plans):
        talk = replace(drawn_talk, pod=0)
        script = writing.script(Plan(talks=(talk,)), 0)
        weight = len(script.turns), len(talk.played), sum(len(turn.data) for turn in script.turns)
        if turns + weight[0] > _MOST_TURNS or exchanges + weight[1] > _MOST_EXCHANGES or size + weight[2] > _MOST_BYTES:
            continue
        chosen.append(talk)
        turns, exchanges, size = turns + weight[0], exchanges + weight[1], size + weight[2]
        if len(chosen) == _MOST_TALKS:
            break
    return Plan(talks=tuple(chosen))


def _by_variety(plans: Iterable[Plan]) -> Iterator[Talk]:
    """The connections, first those that have a trait that no earlier one has."""
    talks = [talk for plan in plans for talk in plan.talks]
    known: set[object] = set()
    later = []
    for talk in talks:
        traits = _traits(talk)
        if traits <= known:
            later.append(talk)
            continue
        known |= traits
        yield talk
    yield from later


def _traits(talk: Talk) -> set[object]:
    traits: set[object] = {talk.protocol, talk.direction, talk.close.how, talk.close.after == 1000, talk.together > 1}
    traits |= {talk.segments.cut, talk.segments.merged, bool(talk.segments.lost), bool(talk.segments.swapped)}
    for exchange in talk.exchanges:
        for whose, content in (("asked", exchange.request), ("answered", exchange.response)):
            traits |= {(whose, content.framing), (whose, content.coding), (whose, content.size.bit_length())}
        traits |= {exchange.method, exchange.status, exchange.interim, bool(exchange.response_fields)}
    return traits


if __name__ == "__main__":
    main(Path(sys.argv[1]))
