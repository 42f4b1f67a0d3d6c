"""Records from pods wait here until the wire below them is read as far.

A pod's ring and the node's ring are read one after the other. So a pod's record may be made before the packets on the
wire that brought it are read. It waits until one of these holds:

- The node's ring has shown a later packet.
- No earlier packet can come any more: twice the time has passed in which a packet is read.
- The node's ring is empty, and the verdict is final (`WireVerdict.is_final`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from tapper.capture.sources import LOOK_S, SECOND_LOOK_S
from tapper.protocols.cost import cost_of
from tapper.protocols.records import FactRecord, Record
from tapper.run.accounts import Account
from tapper.wire.verdict import WireVerdict

_PATIENCE_NS = int(2 * (LOOK_S + SECOND_LOOK_S) * 1_000_000_000)
_GRACE_NS = 20_000_000  # a response passes lo before it passes the wire
MOST_PENDING = 4096
"""Records that may wait; the oldest ones leave early."""
MOST_PENDING_BYTES = 16 << 20
"""What they may take together, in bytes of memory."""
POLL_S = 0.05
"""How often to look while something waits."""

_Item: TypeAlias = tuple[int, Account, Record, int]
"""The time of the record's last byte, in nanoseconds since 1970; its account; the record; its bytes of memory."""


class PendingRecords:
    """Annotates each record with the wire's verdict when it leaves, in the order of `add`. A record that has to leave
    early gets none. `drained()` tells whether the node's ring is empty."""

    def __init__(self, verdict: WireVerdict, drained: Callable[[], bool]) -> None:
        self._verdict = verdict
        self._drained = drained
        self._items: deque[_Item] = deque()
        self._held = 0  # what these records take, in bytes of memory
        self._read_to = 0
        self._drained_at = 0
        """When the node's ring was last known to be empty, in nanoseconds since 1970."""

    def __len__(self) -> int:
        return len(self._items)

    def may_bypass(self, account: Account) -> bool:
        """Whether new records of this pod need not wait: no wire connection is known, and nothing else waits."""
        connections = account.connections
        if self._items or not self._verdict.has_no_wire(connections):
            return False
        if connections.newest >= self._drained_at:  # the node's packets from before these may not be read yet
            now = time.time_ns()
            if not self._drained():
                return False
            self._drained_at = now
        return True

    def add(self, account: Account, records: Iterable[Record]) -> None:
        for record in records:
            end = record.fact.ts if isinstance(record, FactRecord) else record.exchange.end
            cost = cost_of(record)
            self._items.append((end, account, record, cost))
            self._held += cost

    def wire_read(self, records: Iterable[Record], newest: int) -> None:
        """The node's ring was read to its end: these records, the last packet at `newest` (nanoseconds since 1970)."""
        self._verdict.observe(records)
        self._read_to = max(self._read_to, newest - _GRACE_NS)

    def ready(self) -> Iterator[tuple[Account, Record]]:
        """Take out the records that need not wait any longer, and those that are too many."""
        items, read_to = self._items, self._known_to()
        while items and items[0][0] <= read_to:
            yield self._annotated(self._take_oldest())
        if items and self._drained():
            while items and self._verdict.is_final(items[0][2], items[0][1].connections):
                yield self._annotated(self._take_oldest())
        while len(items) > MOST_PENDING or self._held > MOST_PENDING_BYTES:
            yield self._take_oldest()[1:3]

    def rest(self) -> Iterator[tuple[Account, Record]]:
        """Take out all records, when the wire is not read any more."""
        while self._items:
            yield self._annotated(self._take_oldest())

    def of(self, account: Account) -> Iterator[tuple[Account, Record]]:
        """Take out the records of one source."""
        items = [item for item in self._items if item[1] is account]
        self.drop(account)
        read_to = self._known_to()
        for item in items:
            yield self._annotated(item) if item[0] <= read_to else item[1:3]

    def drop(self, account: Account) -> None:
        """Forget the records of one source."""
        self._items = deque(item for item in self._items if item[1] is not account)
        self._held = sum(item[3] for item in self._items)

    def _take_oldest(self) -> _Item:
        item = self._items.popleft()
        self._held -= item[3]
        return item

    def _known_to(self) -> int:
        return max(self._read_to, time.time_ns() - _PATIENCE_NS - _GRACE_NS)

    def _annotated(self, item: _Item) -> tuple[Account, Record]:
        _, account, record, _ = item
        return account, self._verdict.annotate(record, account.connections)
