"""What each source came to: its counts while it is open, and afterwards.

A pod whose source is opened again goes on with the counts that it had. What tells sources apart is the network
namespace and the address together (`Place.identity`), so neither an address that another pod gets later, nor a process
that claims a pod's address, adds to somebody else's counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tapper.capture.sources import Reader
from tapper.output.records import LegKey, Place, Row, Seen, Stat, Totals
from tapper.protocols.detect import Kind
from tapper.protocols.records import FactRecord, Record
from tapper.streams.connections import Connections

MOST_GONE = 1000
"""Closed sources whose counts are kept one by one; the totals keep everything."""
MOST_LEGS = 4096
"""Of one source: pods and directions that are counted one by one. The node's source sees many pods."""


@dataclass(slots=True, eq=False)
class Account:
    """What belongs to a source besides where its packets come from."""

    place: Place
    connections: Connections[Record]
    reader: Reader[Record]
    """Gets the source's packets: the connections, or who records the packets on their way to them."""
    counts: Totals = field(default_factory=lambda: Totals(sources=1))
    """Of its exchanges; those of its packets and streams come with `row`."""
    _legs: dict[LegKey, Seen] = field(default_factory=dict)

    def count(self, records: Iterable[Record]) -> None:
        """Count the exchanges among these records, which are reported."""
        legs, names = self._legs, self.place.pods
        key: LegKey | None = None
        seen = Seen()
        exchanges = incomplete = 0
        for record in records:
            if isinstance(record, FactRecord):
                continue
            leg = record.leg
            if key is None or leg.pod_ip != key.pod_ip or leg.direction is not key.direction:  # mostly they are alike
                key = LegKey(leg.pod_ip, names.get(leg.pod_ip or ""), leg.direction)
                seen = legs.pop(key) if key in legs else Seen()
                legs[key] = seen  # those that nothing was heard of for long are the first to be forgotten
                if len(legs) > MOST_LEGS:
                    del legs[next(iter(legs))]
            seen.exchanges += 1
            exchanges += 1
            if record.exchange.partial:
                seen.incomplete += 1
                incomplete += 1
        self.counts.exchanges += exchanges
        self.counts.incomplete += incomplete

    def undecoded(self, kind: Kind) -> None:
        """A connection carried no HTTP."""
        self.counts.undecoded[kind] = self.counts.undecoded.get(kind, 0) + 1

    def row(self, stat: Stat) -> Row:
        """As it stands, given what was counted of its packets; nothing in it changes later."""
        counts = self.counts.copy()
        counts.add(stat, self.connections.tally)
        legs = {key: Seen(seen.exchanges, seen.incomplete) for key, seen in self._legs.items()}
        return Row(self.place, counts, legs)


class Books:
    """The sources that were closed."""

    def __init__(self) -> None:
        self.totals = Totals()
        """Of all of them."""
        self.forgotten = 0
        """Sources that only the totals know any longer."""
        self._gone: dict[tuple[object, ...], Row] = {}

    def close(self, row: Row) -> None:
        """A source's last counts."""
        self.totals.merge(row.counts)
        identity = row.place.identity
        before = self._gone.pop(identity, None)
        self._gone[identity] = row if before is None else before.plus(row)
        if len(self._gone) > MOST_GONE:
            del self._gone[next(iter(self._gone))]
            self.forgotten += 1

    def rows(self, still_open: Iterable[Row] = ()) -> list[Row]:
        """Every source once, the open ones with what they had when they were open before."""
        rows = dict(self._gone)
        for row in still_open:
            before = rows.get(row.place.identity)
            rows[row.place.identity] = row if before is None else before.plus(row)
        return list(rows.values())
