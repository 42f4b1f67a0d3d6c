"""What was seen in pods waits here until the wire beneath it was read as far.

A pod's ring and the node's are read one after the other, and the kernel hands over the blocks of either when it sees
fit. So a sighting in a pod may be read before the packets on the wire that brought it. It waits until

- the node's ring has shown a later packet,
- or no earlier one can come: 2 retire time-outs of its ring later,
- or its ring is empty, and what the wire was is the same whatever comes: the packets that brought the sighting are
  among those that were read, or are not captured at all.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from tapper.capture.mapped import RETIRE_MS
from tapper.protocols.records import FactRecord, Record
from tapper.run.accounts import Account
from tapper.wire.verdict import Beneath

_PATIENCE_NS = 2 * RETIRE_MS * 1_000_000
_GRACE_NS = 20_000_000  # a response passes lo before it passes the wire
_MOST = 4096
POLL_S = 0.05
"""How often to look while something waits."""


class Held:
    """`beneath` is asked about everything that leaves; of what leaves early, nothing is known. `drained` tells whether
    all that the node's ring has was read."""

    def __init__(self, beneath: Beneath, drained: Callable[[], bool]) -> None:
        self._beneath = beneath
        self._drained = drained
        self._items: deque[tuple[int, Account, Record]] = deque()  # and when its last byte was seen
        self._read_to = 0
        self._drained_at = 0
        """When the node's ring was asked last and all of it had been read, in nanoseconds since 1970."""

    def __len__(self) -> int:
        return len(self._items)

    def passes(self, account: Account) -> bool:
        """Whether what now comes of this pod's source need not be put here: there is no wire that could be beneath it,
        and nothing of before waits."""
        connections = account.connections
        if self._items or not self._beneath.blind(connections):
            return False
        if connections.newest >= self._drained_at:  # else what was on the wire before these packets has been read
            now = time.time_ns()
            if not self._drained():
                return False
            self._drained_at = now
        return True

    def put(self, account: Account, seen: Iterable[Record]) -> None:
        """This came of a pod's source. Runs `seen` to its end."""
        for it in seen:
            self._items.append((it.fact.ts if isinstance(it, FactRecord) else it.exchange.end, account, it))

    def wire_read(self, records: Iterable[Record], newest: int) -> None:
        """All that the node's ring had was read: these, the last packet at `newest` (nanoseconds since 1970)."""
        self._beneath.saw(records)
        self._read_to = max(self._read_to, newest - _GRACE_NS)

    def ready(self) -> Iterator[tuple[Account, Record]]:
        """What need not wait any longer, or cannot, in order."""
        items, read_to = self._items, self._known_to()
        while items and items[0][0] <= read_to:
            yield self._leave(items.popleft())
        if items and self._drained():
            while items and self._beneath.settled(items[0][2], items[0][1].connections):
                yield self._leave(items.popleft())
        while len(items) > _MOST:
            yield items.popleft()[1:]

    def rest(self) -> Iterator[tuple[Account, Record]]:
        """All that waits, when no more will come of the wire."""
        while self._items:
            yield self._leave(self._items.popleft())

    def of(self, account: Account) -> Iterator[tuple[Account, Record]]:
        """What waits of one source."""
        mine = [item for item in self._items if item[1] is account]
        self.drop(account)
        read_to = self._known_to()
        for item in mine:
            yield self._leave(item) if item[0] <= read_to else item[1:]

    def drop(self, account: Account) -> None:
        """Nobody wants to know of this source any longer."""
        self._items = deque(item for item in self._items if item[1] is not account)

    def _known_to(self) -> int:
        return max(self._read_to, time.time_ns() - _PATIENCE_NS - _GRACE_NS)

    def _leave(self, item: tuple[int, Account, Record]) -> tuple[Account, Record]:
        _, account, seen = item
        return account, self._beneath.told(seen, account.connections)
