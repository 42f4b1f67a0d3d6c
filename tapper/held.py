"""What was seen in pods waits here until the wire beneath it was read as far.

A pod's ring and the node's are read one after the other, and the kernel hands over the blocks of either when it sees
fit. So a sighting in a pod may be read before the packets on the wire that brought it. It waits until the node's
ring has shown a later packet, or until no earlier one can come: 2 retire time-outs of its ring.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, replace

from tapper.capture.ring import RETIRE_MS
from tapper.output.records import Place
from tapper.protocols.beneath import Beneath
from tapper.protocols.facts import Note
from tapper.protocols.session import Sighting
from tapper.streams.connections import Connections

_PATIENCE_NS = 2 * RETIRE_MS * 1_000_000
_GRACE_NS = 20_000_000  # a response passes lo before it passes the wire
_MOST = 4096
POLL_S = 0.05
"""How often to look while something waits."""


@dataclass(slots=True)
class _Item:
    key: Hashable
    place: Place
    seen: Sighting | Note
    own: Connections[Sighting]
    end: int
    """When its last byte was seen, in nanoseconds since 1970."""


class Held:
    """`beneath` is asked about everything that leaves; of what leaves early, nothing is known."""

    def __init__(self, beneath: Beneath) -> None:
        self._beneath = beneath
        self._items: deque[_Item] = deque()
        self._read_to = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, key: Hashable, place: Place, own: Connections[Sighting], seen: Sighting | Note) -> None:
        if isinstance(seen, Note):
            end = seen.fact.ts
        else:
            last = seen.exchange.response or seen.exchange.request
            end = seen.exchange.ts if last is None else last.end.ts
        self._items.append(_Item(key, place, seen, own, end))

    def wire_read(self, sightings: Iterable[Sighting], newest: int) -> None:
        """All that the node's ring had was read: these, the last packet at `newest` (nanoseconds since 1970)."""
        self._beneath.saw(sightings)
        self._read_to = max(self._read_to, newest - _GRACE_NS)

    def ready(self, *, everything: bool = False) -> Iterator[tuple[Place, Sighting | Note]]:
        """What need not wait any longer, in order. With `everything`, what cannot wait as well."""
        read_to = max(self._read_to, time.time_ns() - _PATIENCE_NS - _GRACE_NS)
        while self._items and (everything or self._items[0].end <= read_to or len(self._items) > _MOST):
            item = self._items.popleft()
            yield item.place, self._told(item, known=item.end <= read_to)

    def of(self, key: Hashable) -> Iterator[tuple[Place, Sighting | Note]]:
        """What waits of one source."""
        mine = [item for item in self._items if item.key == key]
        self.drop(key)
        read_to = max(self._read_to, time.time_ns() - _PATIENCE_NS - _GRACE_NS)
        for item in mine:
            yield item.place, self._told(item, known=item.end <= read_to)

    def drop(self, key: Hashable) -> None:
        """Nobody wants to know of this source any longer."""
        self._items = deque(item for item in self._items if item.key != key)

    def _told(self, item: _Item, *, known: bool) -> Sighting | Note:
        seen = item.seen
        if not known:
            return seen
        exchange = None if isinstance(seen, Note) else seen.exchange
        return replace(seen, leg=replace(seen.leg, wire=self._beneath.wire(seen.leg, exchange, item.own)))
