"""The counts of each source, while it is open and afterwards.

A pod whose source is opened again continues its counts. A source is identified by the network namespace and the address
together (`Place.identity`). So an address that another pod gets later is counted apart, and so is a process that claims
the address of another pod.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tapper.capture.source import PacketReader
from tapper.output.records import LegKey, Place, Row, Seen, Stat, Totals
from tapper.protocols.detect import Kind
from tapper.protocols.records import FactRecord, Record
from tapper.streams.connection import Leg
from tapper.streams.connections import Connections

MOST_GONE = 1000
"""Closed sources that are kept one by one; the totals include all."""
MOST_LEGS = 4096
"""Pods and directions of one source that are counted one by one: the node's source captures many pods."""


@dataclass(slots=True, eq=False)
class Account:
    """A source's readers and counts."""

    place: Place
    connections: Connections[Record]
    reader: PacketReader[Record]
    """Takes the source's packets: `connections`, those of another source, or a recorder that passes packets on."""
    counts: Totals = field(default_factory=lambda: Totals(sources=1))
    """Of the exchanges; `row` adds those of the packets and streams."""
    _legs: dict[LegKey, Seen] = field(default_factory=dict)
    """In the order of last use."""

    def count(self, records: Iterable[Record]) -> None:
        """Count the exchanges among these records, which are reported."""
        leg, exchanges, incomplete = None, 0, 0
        for record in records:
            if isinstance(record, FactRecord):
                continue
            # Exchanges in a row are mostly of one pod and direction: they are counted together.
            if leg is None or record.leg.pod_ip != leg.pod_ip or record.leg.direction is not leg.direction:
                self._add(leg, exchanges, incomplete)
                leg, exchanges, incomplete = record.leg, 0, 0
            exchanges += 1
            incomplete += record.exchange.partial
        self._add(leg, exchanges, incomplete)

    def _add(self, leg: Leg | None, exchanges: int, incomplete: int) -> None:
        """Count exchanges of the leg's pod and direction. The longest unused counts are forgotten first."""
        if leg is None:
            return
        self.counts.exchanges += exchanges
        self.counts.incomplete += incomplete
        legs, key = self._legs, LegKey(leg.pod_ip, self.place.pods.get(leg.pod_ip or ""), leg.direction)
        seen = legs[key] = legs.pop(key) if key in legs else Seen()
        seen.exchanges += exchanges
        seen.incomplete += incomplete
        if len(legs) > MOST_LEGS:
            del legs[next(iter(legs))]

    def undecoded(self, kind: Kind) -> None:
        """Count a connection that carried no HTTP."""
        self.counts.undecoded[kind] = self.counts.undecoded.get(kind, 0) + 1

    def row(self, stat: Stat) -> Row:
        """A copy of the counts, given those of the packets."""
        counts = self.counts.copy()
        counts.add(stat, self.connections.tally)
        legs = {key: Seen(seen.exchanges, seen.incomplete) for key, seen in self._legs.items()}
        return Row(self.place, counts, legs)


class Books:
    """The counts of the closed sources."""

    def __init__(self) -> None:
        self.totals = Totals()
        """Of all closed sources."""
        self.forgotten = 0
        """Sources that are only in the totals any more."""
        self._gone: dict[tuple[object, ...], Row] = {}

    def close(self, row: Row) -> None:
        """Take a source's last counts."""
        self.totals.add(row.counts)
        identity = row.place.identity
        before = self._gone.pop(identity, None)
        self._gone[identity] = row if before is None else before.plus(row)
        if len(self._gone) > MOST_GONE:
            del self._gone[next(iter(self._gone))]
            self.forgotten += 1

    def rows(self, still_open: Iterable[Row] = ()) -> list[Row]:
        """Every source once; an open one includes the counts of when it was open before."""
        rows = dict(self._gone)
        for row in still_open:
            before = rows.get(row.place.identity)
            rows[row.place.identity] = row if before is None else before.plus(row)
        return list(rows.values())
