"""All of the oracle in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.adapters.contract import Feature
from harness.adapters.observed import Seen
from harness.adapters.packets import Packet
from harness.conformance.oracle.model import Difference, PodTruth, Span


@dataclass(frozen=True, slots=True)
class Question:
    """One tapper's report, and the truth to hold it against."""

    truths: Sequence[PodTruth]
    """Of every pod that was recorded."""
    spans: Sequence[Span]
    """When each pod was a target, in time's order. A pod without a span never was one."""
    claims: frozenset[Feature]
    seen: Sequence[Seen] = ()
    """What a tapper of records reported."""
    packets: Sequence[Packet] | None = None
    """What a tapper of packets captured; None of a tapper of records."""
    tolerance_s: float = 1.0
    """How far its times may be from the packets'."""
    undetermined: frozenset[str] = frozenset()
    """Client ends, as `127.0.0.6:40001`, of connections that the case leaves open to interpretation."""


def judge(question: Question) -> list[Difference]:
    """Every difference between the report and the truth, the most telling first."""
    raise NotImplementedError
