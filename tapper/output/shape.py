"""Selects the records that are reported, and takes their secrets out. Every format gets its records from here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tapper.output.filters import Filter
from tapper.output.records import Totals
from tapper.output.redaction import Redaction
from tapper.protocols.probes import is_probe
from tapper.protocols.records import FactRecord, Record


@dataclass(frozen=True, slots=True)
class Shape:
    """Filters first, then redaction. It is the only way from a source to a format, so no format sees a secret."""

    redaction: Redaction | None = field(default_factory=Redaction)
    """None: nothing is redacted."""
    filter: Filter = field(default_factory=Filter)
    probes: bool = True
    """True if exchanges that look like health probes are reported."""
    streams: bool = True
    """True if exchanges that go on for long are told while they do. Sessions do not read their parts if not."""

    def apply(self, records: Sequence[Record], totals: Totals) -> list[Record]:
        """The records to report, in the same order. Counts the exchanges that are left out in `totals`."""
        shown: list[Record] = []
        for record in records:
            if isinstance(record, FactRecord):
                if self.filter.empty:  # a fact meets no condition
                    fact = record.fact if self.redaction is None else self.redaction.fact(record.fact)
                    shown.append(record if fact is record.fact else FactRecord(record.leg, fact))
            elif (self.probes or not is_probe(record.leg, record.exchange)) and (
                self.filter.empty or self.filter.passes(record.exchange)
            ):
                if self.redaction is not None:
                    self.redaction.apply(record)
                shown.append(record)
            else:
                totals.filtered += 1
        return shown
