"""Counts: right ones are believed, and each that cannot be right is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from oracle_world import Record, World, everything

from harness.conformance.oracle import counts
from harness.conformance.oracle.model import Difference, DifferenceKind

_ONE_LIST = 1


@pytest.fixture(scope="module")
def world() -> World:
    return everything()


def judged(world: World, records: list[Record], **changes: Any) -> list[Difference]:
    return world.judged(world.question(others=[*world.sockets, *records], generations=_ONE_LIST, **changes))


def _changed(kind: str, **values: Any) -> Callable[[list[Record]], list[Record]]:
    """The last record of a type with other values."""

    def change(records: list[Record]) -> list[Record]:
        last = max(number for number, record in enumerate(records) if record["type"] == kind)
        return [record | values if number == last else record for number, record in enumerate(records)]

    return change


def _place(**values: Any) -> Callable[[list[Record]], list[Record]]:
    """The counts of each place with other values."""
    return lambda records: [record | values if "netns" in record else record for record in records]


RIGHT: dict[str, Callable[[list[Record]], list[Record]]] = {
    "all of them": lambda records: records,
    "none": lambda _: [],
    "no places": lambda records: [record for record in records if "netns" not in record],
    "no bye": lambda records: [record for record in records if record["type"] != "bye"],
    "counts so far": lambda records: [*records[:1], {"type": "stat", "received": 9, "dropped": 9, "so_far": True}],
    "both copies on lo": lambda records: [
        record | {"received": record["received"] * 2} if record["type"] != "ack" else record for record in records
    ],
    "null": _changed("bye", exchanges=None, incomplete=None, received=None, dropped=None),
    "fields of other names": _changed("bye", requests=3, exchanges_by_pod={}),
}
WRONG: dict[str, tuple[Callable[[list[Record]], list[Record]], str]] = {
    "an exchange more": (_changed("bye", exchanges=10_000), "exchanges to be"),
    "no exchanges": (_changed("bye", exchanges=0), "exchanges to be"),
    "halves that were whole": (_changed("bye", incomplete=3), "incomplete to be"),
    "fewer packets than requests": (
        lambda records: [_changed("bye", received=2)(records)[-1]],
        "received to be",
    ),
    "more packets than all places": (_changed("bye", received=10**9), "received to be"),
    "a place with too many packets": (_place(received=10**9), "received to be"),
    "falling drops": (
        lambda records: [*records[:1], {"type": "stat", "dropped": 5}, *records[1:]],
        "dropped to be",
    ),
    "a negative count": (_changed("stat", dropped=-1), "dropped to be"),
    "a count that is a text": (_changed("bye", received="many"), "received to be"),
    "a generation that was never given": (_changed("ack", generation=7), "generation to be"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_counts_are_no_difference(world: World, name: str) -> None:
    assert [str(each) for each in judged(world, RIGHT[name](world.counts))] == []


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_count_is_told(world: World, name: str) -> None:
    change, what = WRONG[name]
    found = judged(world, change(world.counts))
    assert {(each.kind, each.field) for each in found} == {(DifferenceKind.WRONG, counts.FIELD)}
    assert any(each.expected.startswith(what) for each in found)


def test_a_missing_exchange_explains_the_count(world: World) -> None:
    """Otherwise one fault would fail two cases."""
    middle = len(world.records) // 2
    records = [*world.records[:middle], *world.records[middle + 1 :]]
    found = world.judged(world.question(records, generations=_ONE_LIST))
    assert found
    assert counts.FIELD not in {each.field for each in found}
