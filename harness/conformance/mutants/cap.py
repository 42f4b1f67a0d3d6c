"""Broken in what is captured in a pod, and how often."""

from __future__ import annotations

from harness.conformance.mutants.model import Mutant
from tapper.output.ndjson import Ndjson
from tapper.output.records import Place
from tapper.protocols.session import Sighting


def _report_both_copies() -> None:
    whole = Ndjson.sighting

    def twice(self: Ndjson, place: Place, sighting: Sighting) -> str:
        return whole(self, place, sighting) * (2 if place.interface == "lo" else 1)

    Ndjson.sighting = twice  # type: ignore[method-assign]


OUTGOING_COPY = Mutant(
    "outgoing-copy",
    "It takes both copies that a raw socket gets of a frame on lo for frames.",
    {"CAP-03": "too often"},
    _report_both_copies,
)
