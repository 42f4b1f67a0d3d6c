"""How long the addresses of a namespace are believed."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import pytest

from tapper.discovery.procfs import Procfs
from tapper.errors import TapperError
from tapper.follow import addresses
from tapper.follow.addresses import NamespaceAddresses
from tapper.namespaces.enter import Visit
from tapper.namespaces.identity import NamespaceId

POD = NamespaceId(4, 4026531999)
ONE, OTHER = (frozenset({ip_address(f"10.244.0.{number}")}) for number in (1, 2))


class Namespaces:
    """A played namespace, and a clock."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.answer: frozenset[Any] | TapperError = ONE

    def answers(self, visits: Sequence[Visit[Any]]) -> list[object]:
        return [self.answer for _ in visits]


@pytest.fixture(params=[1.0, 1e6], ids=["just booted", "long up"])
def namespaces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Namespaces:
    played = Namespaces(request.param)
    monkeypatch.setattr("time.monotonic", lambda: played.now)
    monkeypatch.setattr(addresses, "run_inside_each", played.answers)
    monkeypatch.setattr(addresses, "ANSWER_HOLDS_S", 3600.0)
    return played


def test_an_answer_holds_until_it_is_invalidated(namespaces: Namespaces) -> None:
    """A new namespace is asked at each scan, an older one now and then, and all of them after `invalidate`."""
    cache = NamespaceAddresses(Procfs())

    def known(after_s: float) -> object:
        namespaces.now += after_s
        cache.refresh({POD: [7]})
        return cache.known(POD)

    assert known(0) == ONE
    namespaces.answer = OTHER
    assert known(addresses.NEW_S - 1) == OTHER
    namespaces.answer = ONE
    assert known(2) == OTHER, "old enough, and asked 2 s ago"
    cache.invalidate()
    assert known(0) == ONE
    namespaces.answer = OTHER
    assert known(addresses.ANSWER_HOLDS_S - 1) == ONE
    assert known(2) == OTHER


def test_a_namespace_that_cannot_be_asked_keeps_its_answer(namespaces: Namespaces) -> None:
    cache = NamespaceAddresses(Procfs())
    assert cache.refresh({POD: [7]}) == {}
    namespaces.answer = TapperError("no")
    cache.invalidate()
    assert cache.refresh({POD: [7]}) == {POD: namespaces.answer}
    assert cache.known(POD) == ONE
    cache.forget_others(set())
    assert cache.known(POD) is None


def test_a_namespace_without_addresses_is_asked_at_each_scan(namespaces: Namespaces) -> None:
    cache = NamespaceAddresses(Procfs())
    namespaces.answer = frozenset()
    cache.refresh({POD: [7]})
    namespaces.now += 100
    cache.refresh({POD: [7]})
    namespaces.answer = ONE
    cache.refresh({POD: [7]})
    assert cache.known(POD) == ONE
