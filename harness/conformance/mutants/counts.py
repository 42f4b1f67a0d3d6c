"""Broken in what is counted: filters over the records that tell counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from harness.conformance.mutants.model import Fault, Mutant
from harness.conformance.mutants.streams import Record, RecordFilter

_COUNTING = ("stat", "bye")


def _counts(change: Callable[[Record], Record], *kinds: str) -> RecordFilter:
    """Changes each record of these types; all others pass."""

    def changed(records: Iterator[Record]) -> Iterator[Record]:
        for record in records:
            yield record | change(record) if record["type"] in kinds else record

    return changed


def _mutant(name: str, defect: str, reason: str, change: RecordFilter) -> Mutant:
    return Mutant(name, defect, {"CAP-23": reason}, Fault(records=(change,)))


COUNTS_HALVES_TWICE = _mutant(
    "counts-halves-twice",
    "It counts a request without an answer for two exchanges.",
    "expected exchanges to be",
    _counts(lambda bye: {"exchanges": bye.get("exchanges", 0) + bye.get("incomplete", 0)}, "bye"),
)
KNOWS_NO_HALVES = _mutant(
    "knows-no-halves",
    "It counts a request without an answer for a whole exchange.",
    "expected incomplete to be",
    _counts(lambda _: {"incomplete": 0}, "bye"),
)
COUNTS_NO_PACKETS = _mutant(
    "counts-no-packets",
    "It never counts a packet.",
    "expected received to be",
    _counts(lambda _: {"received": 0}, *_COUNTING),
)
COUNTS_BYTES = _mutant(
    "counts-bytes",
    "It counts bytes where packets are asked for.",
    "expected received to be",
    _counts(lambda record: {"received": record.get("received", 0) * 1500}, *_COUNTING),
)
NEXT_GENERATION = _mutant(
    "next-generation",
    "It acknowledges the list of targets after the one that it has.",
    "expected generation to be",
    _counts(lambda ack: {"generation": ack.get("generation", 0) + 1}, "ack"),
)
