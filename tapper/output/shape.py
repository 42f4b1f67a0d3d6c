"""What of the sightings comes out, whatever the format: filters first, then redaction."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tapper.output.filters import Filter
from tapper.output.records import Totals
from tapper.output.redaction import Redaction
from tapper.protocols.facts import ByteStream, Note
from tapper.protocols.probes import is_probe
from tapper.protocols.session import Sighting


@dataclass(frozen=True, slots=True)
class Shape:
    """The only way from a source to a format, so that no format can forget a secret."""

    redaction: Redaction | None = field(default_factory=Redaction)
    """None: values come out as they were."""
    filter: Filter = field(default_factory=Filter)
    probes: bool = True
    """Whether what looks like a health probe is reported."""

    def apply(self, seen: list[Sighting], totals: Totals) -> list[Sighting]:
        """What is to be reported. Adds to `totals` what is not."""
        if not self.probes:
            passing = [sighting for sighting in seen if not is_probe(sighting.leg, sighting.exchange)]
            totals.filtered += len(seen) - len(passing)
            seen = passing
        if not self.filter.empty:
            passing = [sighting for sighting in seen if self.filter.passes(sighting.exchange)]
            totals.filtered += len(seen) - len(passing)
            seen = passing
        if self.redaction is not None:
            for sighting in seen:
                self.redaction.apply(sighting)
        return seen

    def note(self, note: Note) -> Note | None:
        """What of a note is to be reported; None under a filter, since a note meets no condition.

        How bytes that nobody can read begin may be a secret, and no name tells: redaction leaves only their number.
        """
        if not self.filter.empty:
            return None
        if self.redaction is not None and isinstance(note.fact, ByteStream):
            return replace(note, fact=replace(note.fact, previews=(b"", b"")))
        return note
