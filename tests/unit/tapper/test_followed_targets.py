"""The targets of the command line and of the feeds become one list."""

from __future__ import annotations

import math
from ipaddress import ip_address
from typing import Self

from tapper.run.followed_targets import FollowedTargets
from tapper.targets.pods import Targets

FIXED, FIRST, SECOND = (ip_address(f"10.0.0.{number}") for number in (1, 2, 3))


class Played:
    """A feed with prepared news."""

    def __init__(self, *news: Targets | None, next_glance: float = 5.0) -> None:
        self._news = list(news)
        self.next_glance = next_glance

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def fileno(self) -> int | None:
        return None

    def news(self) -> Targets | None:
        return self._news.pop(0) if self._news else None


def test_without_feeds_the_targets_stay() -> None:
    targets = FollowedTargets(frozenset({FIXED}), ())
    assert not targets.update()
    assert (set(targets.now.addresses), targets.next_glance) == ({FIXED}, math.inf)


def test_a_feeds_news_take_the_place_of_its_last_ones() -> None:
    changing = Played(Targets(frozenset({FIRST})), None, Targets(frozenset({SECOND})))
    steady = Played(Targets(frozenset({FIRST})), next_glance=3.0)
    targets = FollowedTargets(frozenset({FIXED}), (changing, steady))
    assert targets.next_glance == 3.0
    assert [(targets.update(), set(targets.now.addresses)) for _ in range(3)] == [
        (True, {FIXED, FIRST}),
        (False, {FIXED, FIRST}),
        (True, {FIXED, FIRST, SECOND}),
    ]


def test_the_last_generation_is_to_be_acknowledged() -> None:
    numbered = Played(Targets(frozenset({FIRST}), {}, 7), Targets(frozenset({SECOND}), {}, 8))
    targets = FollowedTargets(frozenset(), (numbered, Played(None, Targets(frozenset({FIXED})))))
    targets.update()
    assert targets.unacknowledged == 7
    targets.update()
    assert targets.unacknowledged == 8, "a list without a generation changes nothing"
