"""Each kind of difference is the affair of one case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from oracle_world import Record, World, everything

from harness.conformance.model import Charge
from harness.conformance.oracle import attribution
from harness.conformance.oracle.model import Span


@pytest.fixture(scope="module")
def world() -> World:
    return everything()


def charges(world: World, records: list[Record], case: str = "LIFE-10", **changes: Any) -> tuple[Charge, ...]:
    return attribution.charges(case, world.judged(world.question(records, **changes)), len(world.records))


def changed(world: World, which: Callable[[Record], bool], change: Callable[[Record], list[Record]]) -> list[Record]:
    """The perfect report, in which the first record of this kind is told otherwise."""
    at = next(number for number, record in enumerate(world.records) if which(record))
    return [*world.records[:at], *change(world.records[at]), *world.records[at + 1 :]]


def status(number: int) -> Callable[[Record], bool]:
    return lambda record: record["status"] == number


def other_body(record: Record) -> list[Record]:
    return [record | {"response": record["response"] | {"body_b64": "eA=="}}]


def no_answer(record: Record) -> list[Record]:
    return [record | {"status": None, "response": None}]


def nothing(_: Record) -> list[Record]:
    return []


def others_fields(record: Record) -> list[Record]:
    return [record | {"request": record["request"] | {"headers": record["response"]["headers"]}}]


def no_fields(record: Record) -> list[Record]:
    return [record | {"request": record["request"] | {"headers": []}}]


PLAIN, OUT, IPV6, OUT_IPV6, CHUNKED, STREAM = 211, 213, 214, 215, 216, 221
CALL = 0
"""In place of a status: the call."""


@pytest.mark.parametrize(
    ("number", "change", "cases"),
    [
        (PLAIN, other_body, ("HTTP-01",)),
        (OUT, other_body, ("HTTP-01",)),
        (CHUNKED, other_body, ("HTTP-01", "HTTP-02")),
        (STREAM, other_body, ("HTTP-01", "HTTP-07")),
        (PLAIN, no_answer, ("HTTP-03",)),
        (OUT, no_answer, ("HTTP-03", "CAP-02")),
        (OUT_IPV6, no_answer, ("HTTP-03", "CAP-02", "CAP-10")),
        (STREAM, no_answer, ("HTTP-03", "HTTP-07")),
        (PLAIN, nothing, ("CAP-01", "LIFE-10")),
        (OUT, nothing, ("CAP-02", "LIFE-10")),
        (IPV6, nothing, ("CAP-10", "LIFE-10")),
        (STREAM, nothing, ("CAP-01", "HTTP-07", "LIFE-10")),
        (PLAIN, lambda record: [record, record], ("CAP-03", "LIFE-10")),
        (PLAIN, lambda record: [record, record | {"target": "/livez"}], ("CAP-14",)),
        (PLAIN, lambda record: [record | {"direction": "outbound"}], ("CAP-15",)),
        (PLAIN, lambda record: [record | {"netns": 1}], ("CAP-16",)),
        (PLAIN, lambda record: [record | {"version": "HTTP/1.0"}], ("CAP-17",)),
        (PLAIN, lambda record: [record | {"ts": 0}], ("CAP-13",)),
        (PLAIN, lambda record: [record | {"dst": "192.0.2.1:80"}], ("HTTP-11",)),
        (PLAIN, lambda record: [record | {"method": "get"}], ("HTTP-15",)),
        (PLAIN, lambda record: [record | {"proxied_for": "192.0.2.1:80"}], ("HTTP-27",)),
        (PLAIN, lambda record: [record | {"outcome": "reset"}], ("HTTP-30",)),
        (PLAIN, others_fields, ("HTTP-22",)),
        (STREAM, no_fields, ("HTTP-14",)),
        (STREAM, lambda record: [record | {"outcome": "reset"}], ("HTTP-30",)),
        (CALL, lambda record: [record | {"grpc": record["grpc"] | {"status": 0}}], ("HTTP-09",)),
    ],
)
def test_a_difference_is_one_case_s_affair(
    world: World, number: int, change: Callable[[Record], list[Record]], cases: tuple[str, ...]
) -> None:
    which = status(number) if number else lambda record: "grpc" in record
    (charge, *others) = charges(world, changed(world, which, change))
    assert not others
    assert charge.cases == cases
    assert not charge.everywhere


def test_what_is_so_with_everything_is_told_as_such(world: World) -> None:
    found = charges(world, [record for each in world.records for record in (each, each)])
    assert all(charge.everywhere for charge in found)
    assert {(charge.fault, charge.cases[0]) for charge in found} == {("repeated", "CAP-03")}


def test_records_of_a_pod_that_is_no_target_are_about_neighbours(world: World) -> None:
    found = charges(world, world.records, spans=[Span("pod-2", 0, world.now_ns)], others=())
    assert {charge.cases for charge in found} == {("SEC-03",)}


def test_what_goes_wrong_under_load_is_the_load_s(world: World) -> None:
    (charge,) = charges(world, changed(world, status(PLAIN), other_body), case="LOAD-03")
    assert charge.cases == ("HTTP-01", "LOAD-03")
