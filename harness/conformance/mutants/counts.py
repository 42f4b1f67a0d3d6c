"""Broken in what is counted: filters over the records that tell counts."""

from __future__ import annotations

from harness.conformance.mutants.model import Fault, Mutant
from harness.conformance.mutants.streams import RecordFilter, over_kinds

_COUNTING = ("stat", "bye")


def _mutant(name: str, defect: str, reason: str, change: RecordFilter) -> Mutant:
    return Mutant(name, defect, {"CAP-23": reason}, Fault(records=(change,)))


COUNTS_HALVES_TWICE = _mutant(
    "counts-halves-twice",
    "It counts a request without an answer for two exchanges.",
    "expected exchanges to be",
    over_kinds(lambda bye: {"exchanges": bye.get("exchanges", 0) + bye.get("incomplete", 0)}, "bye"),
)
KNOWS_NO_HALVES = _mutant(
    "knows-no-halves",
    "It counts a request without an answer for a whole exchange.",
    "expected incomplete to be",
    over_kinds(lambda _: {"incomplete": 0}, "bye"),
)
COUNTS_NO_PACKETS = _mutant(
    "counts-no-packets",
    "It never counts a packet.",
    "expected received to be",
    over_kinds(lambda _: {"received": 0}, *_COUNTING),
)
COUNTS_BYTES = _mutant(
    "counts-bytes",
    "It counts bytes where packets are asked for.",
    "expected received to be",
    over_kinds(lambda record: {"received": record.get("received", 0) * 1500}, *_COUNTING),
)
NEXT_GENERATION = _mutant(
    "next-generation",
    "It acknowledges the list of targets after the one that it has.",
    "expected generation to be",
    over_kinds(lambda ack: {"generation": ack.get("generation", 0) + 1}, "ack"),
)
