"""What a tapper counted, held against what it reported and what crossed. Pure.

Compared are the counts that the contract names: `generation` of `ack`; `received` and `dropped` of `stat` and `bye`;
`exchanges` and `incomplete` of `bye`. A `stat` is of one place of capture where it has `netns`, else of the whole run.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from harness.adapters.observed import ReportedExchange, in_words
from harness.conformance.oracle.compare import same_end
from harness.conformance.oracle.expectation import PodDecoded
from harness.conformance.oracle.model import Difference, DifferenceKind

FIELD = "counts"
_COUNTS = ("received", "dropped", "exchanges", "incomplete")
_PACKETS = ("received", "dropped")
_COPIES_ON_LO = 2
"""A raw socket on `lo` gets each packet twice (packet(7))."""

Record = Mapping[str, Any]


def differences(
    pods: Sequence[PodDecoded], seen: Sequence[ReportedExchange], records: Sequence[Record], generations: int
) -> Iterator[Difference]:
    """Every count that cannot be right. `seen` are the exchanges that were reported, `records` all other records;
    `generations` is how many lists of targets the tapper was given, 0 where that is not known."""
    stats = [record for record in records if record["type"] == "stat" and not record.get("so_far")]
    farewells = [record for record in records if record["type"] == "bye"]
    yield from _acknowledged(records, generations)
    wrong = list(_no_counts([*stats, *farewells]))
    yield from wrong
    if wrong:
        return
    yield from _of_places(pods, [record for record in stats if "netns" in record])
    if len(farewells) <= 1:  # several processes count each for itself
        yield from _growing([record for record in stats if "netns" not in record], farewells)
    if farewells:
        yield from _of_run(farewells, pods, seen, stats)


def _acknowledged(records: Sequence[Record], generations: int) -> Iterator[Difference]:
    """An acknowledgement is of a list that was given."""
    for record in records:
        generation = record.get("generation")
        if record["type"] == "ack" and generations and not (_is_count(generation) and 1 <= generation <= generations):
            right = f"from 1 to {generations}, the generations that the targets file had"
            yield _difference("generation", right, generation, record)


def _no_counts(records: Sequence[Record]) -> Iterator[Difference]:
    """A count is a whole number, and not negative."""
    for record in records:
        for name in _COUNTS:
            if record.get(name) is not None and not _is_count(record[name]):
                yield _difference(name, "a number from 0 on", record[name], record)


def _of_places(pods: Sequence[PodDecoded], stats: Sequence[Record]) -> Iterator[Difference]:
    """A pod's `lo` gave no more packets than crossed it."""
    truths = {pod.truth.netns: pod.truth for pod in pods if pod.truth.netns is not None and not pod.truth.lost}
    for record in stats:
        truth = truths.get(record["netns"])
        if truth is None or record.get("interface") != "lo" or record.get("received") is None:
            continue
        crossed = len(truth.frames)
        if record["received"] > crossed * _COPIES_ON_LO:
            right = (
                f"at most {crossed * _COPIES_ON_LO}, twice the {crossed} packets that crossed the lo of {truth.name}"
            )
            yield _difference("received", right, record["received"], record)


def _growing(stats: Sequence[Record], farewell: Sequence[Record]) -> Iterator[Difference]:
    """Counts of the whole run do not fall."""
    for name in _PACKETS:
        several = [record for record in (*stats, *farewell) if record.get(name) is not None]
        for before, after in itertools.pairwise(several):
            if after[name] < before[name]:
                yield _difference(name, f"at least {before[name]}, as a stat record before it", after[name], after)


def _of_run(
    farewells: Sequence[Record], pods: Sequence[PodDecoded], seen: Sequence[ReportedExchange], stats: Sequence[Record]
) -> Iterator[Difference]:
    """The counts of `bye`: of the exchanges that were reported, and of the packets of all places. Several processes
    write a record each, and their sum is compared."""
    halves = sum(each.request is None or each.response is None for each in seen)
    doubtful = sum(bool(each.record.get("incomplete")) for each in seen)
    received = [record["received"] for record in stats if "netns" in record and record.get("received") is not None]
    bounds = {
        "exchanges": (len(seen), len(seen), "the number of its http records"),
        "incomplete": (halves, halves + doubtful, "the number of its http records without a request or a response"),
        "received": (
            max(_packets_of_requests(pods, seen), *received, 0),
            sum(received) if received else None,
            "by the exchanges that it reported and its stat records",
        ),
    }
    for name, (least, most, why) in bounds.items():
        several = [record[name] for record in farewells if record.get(name) is not None]
        told = sum(several)
        if len(several) < len(farewells) or (name == "incomplete" and not _tells_messages(seen)):
            continue
        if told < least or (most is not None and told > most):
            right = f"{least}" if least == most else f"at least {least}" if told < least else f"at most {most}"
            yield _difference(name, f"{right}, {why}", told, farewells[-1])


def _packets_of_requests(pods: Sequence[PodDecoded], seen: Sequence[ReportedExchange]) -> int:
    """The least number of packets that a tapper must have received to know these exchanges by their requests."""
    reported = {same_end(each.src) for each in seen if each.src is not None and each.request is not None}
    return len(
        {
            (decoded.connection.client, exchange.first_ns)
            for pod in pods
            for decoded in pod.decoded
            if decoded.connection.client in reported and not decoded.flaw
            for exchange in decoded.exchanges[:1]
        }
    )


def _tells_messages(seen: Sequence[ReportedExchange]) -> bool:
    """Whether its records have requests and responses at all: without them none of its exchanges is a half."""
    return any(each.request is not None for each in seen)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _difference(count: str, right: str, told: object, record: Record) -> Difference:
    what = f"a record of type {record['type']}"
    return Difference(DifferenceKind.WRONG, FIELD, what, f"{count} to be {right}", in_words(str(told)), None, record)
