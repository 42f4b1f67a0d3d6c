"""How long what a namespace said of its addresses is believed."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from tapper.discovery.finders import Candidate, Finder
from tapper.discovery.procfs import Procfs
from tapper.follow import owners
from tapper.follow.owners import Owners
from tapper.namespaces.identity import NamespaceId

POD = Candidate(7, NamespaceId(4, 4026531999), Finder.NETNS)


class Namespaces:
    """Played ones, and a clock."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.asked = 0

    def monotonic(self) -> float:
        return self.now

    def answer(self, places: list[object]) -> list[object]:
        self.asked += len(places)
        return [frozenset({ip_address("10.244.0.2")}) for _ in places]


@pytest.fixture(params=[1.0, 1e6], ids=["just booted", "long up"])
def namespaces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Namespaces:
    played = Namespaces(request.param)
    monkeypatch.setattr(owners, "time", played)
    monkeypatch.setattr(owners, "run_inside_each", played.answer)
    return played


def test_an_answer_holds_until_it_is_doubted(namespaces: Namespaces, monkeypatch: pytest.MonkeyPatch) -> None:
    """A young namespace is asked at every look, an older one now and then, and all of them after `doubt`."""
    monkeypatch.setattr(owners, "_ANSWER_HOLDS_S", 3600.0)
    known = Owners(Procfs("/proc"))
    known.refresh([POD])
    namespaces.now += owners._YOUNG_S - 1
    known.refresh([POD])
    assert namespaces.asked == 2
    namespaces.now += 2
    known.refresh([POD])
    assert namespaces.asked == 2, "old enough, and asked 2 s ago"
    known.doubt()
    known.refresh([POD])
    assert namespaces.asked == 3
    namespaces.now += owners._ANSWER_HOLDS_S
    known.refresh([POD])
    assert namespaces.asked == 4
