"""The targets of the command line and of the feeds become one list."""

from __future__ import annotations

import json
import math
from ipaddress import ip_address
from pathlib import Path
from typing import Self

import pytest

from tapper.run.followed_targets import FollowedTargets
from tapper.targets import feed
from tapper.targets.feed import FileFeed
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


def test_a_long_list_is_read_in_steps_between_turns_of_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_READING_S", 0)
    path = tmp_path / "targets"
    path.write_text('{"generation": 1, "pods": []}')
    warned: list[str] = []
    with FileFeed(str(path), warned.append) as reading:
        assert reading.news() == Targets(frozenset(), generation=1)
        for generation, pods, ips in ((2, 10_000, ["10.0.0.1"]), (3, 10_000, ["no address"]), (4, 1, ["10.0.0.1"])):
            pod = {"namespace": "shop", "name": "cart", "ips": ips}
            path.write_text(json.dumps({"generation": generation, "pods": [pod] * pods}))
            reading.next_glance = 0.0
            turns = 1
            while (targets := reading.news()) is None and not warned:
                assert reading.next_glance == 0.0, "the loop must not sleep before the end"
                turns += 1
            if generation == 3:
                assert "'no address' in the ips of pods[0]" in warned.pop()
            else:
                assert targets is not None
                assert targets.generation == generation
                assert turns == 2 + pods // 1000
