"""Puts the fragments of IP packets together (RFC 791 section 3.2, RFC 8200 section 4.5, RFC 5722).

It does what Linux does, because the receiver decides what a packet says: a fragment that repeats known bytes is
ignored; one that overlaps others in part, or contradicts the packet's length, discards the whole packet.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, NamedTuple

from tapper.streams.bounds import SECOND, Budget

CONTRADICTORY: Final = "contradictory IP fragments"
INCOMPLETE: Final = "incomplete IP fragments"
OVER_BOUND: Final = "IP fragments over the memory bound"

LONGEST: Final = 65_535
"""Bytes of a packet's payload."""
_PATIENCE: Final = 30 * SECOND
"""As net.ipv4.ipfrag_time, by the packets' times."""
_COST: Final = 300
"""Bytes that Python's objects take for a fragment besides its data; for a packet, four times as many."""


class Fragment(NamedTuple):
    """One fragment."""

    ts: int
    """Nanoseconds since 1970."""
    key: bytes
    """The same in all fragments of a packet."""
    header: bytes
    """The IP header."""
    protocol: int
    """What the payload is."""
    offset: int
    """Bytes of the payload before this fragment."""
    more: bool
    """Whether fragments come behind it."""
    data: bytes


class _Parts:
    """The fragments of one packet so far."""

    __slots__ = ("began", "data", "end", "first", "held", "last", "runs")

    def __init__(self, began: int) -> None:
        self.began = began
        """The time of the first fragment that came."""
        self.data: dict[int, bytes] = {}
        """By offset. None overlaps another."""
        self.runs: list[tuple[int, int]] = []
        """The stretches of payload that are there, in order; no two touch."""
        self.end = 0
        """The end of the last stretch."""
        self.last = False
        """Whether the last fragment is there."""
        self.first: Fragment | None = None
        self.held = 4 * _COST

    def add(self, fragment: Fragment) -> bool:
        """Add a fragment. False where it contradicts the others."""
        start, data = fragment.offset, fragment.data
        if fragment.more:
            data = data[: len(data) // 8 * 8]  # Linux ignores the bytes that do not fill a unit of eight
        end = start + len(data)
        # 1. The packet's length.
        if end == start or end > LONGEST or (self.last and end > self.end):
            return False
        if not fragment.more and (end < self.end or (self.last and end != self.end)):
            return False
        # 2. Bytes that are there.
        index = bisect_right(self.runs, (start, LONGEST + 1))
        if index and self.runs[index - 1][1] > start:
            return end <= self.runs[index - 1][1]  # a repetition is ignored
        if index < len(self.runs) and self.runs[index][0] < end:
            return False
        # 3. A new stretch, joined with its neighbours.
        low, high = index, index
        begin, stop = start, end
        if index and self.runs[index - 1][1] == start:
            low, begin = index - 1, self.runs[index - 1][0]
        if index < len(self.runs) and self.runs[index][0] == end:
            high, stop = index + 1, self.runs[index][1]
        self.runs[low:high] = [(begin, stop)]
        self.data[start] = data
        self.end = max(self.end, end)
        self.last = self.last or not fragment.more
        self.held += _COST + len(data)
        if start == 0:
            self.first = fragment
        return True

    @property
    def complete(self) -> bool:
        return self.last and self.runs == [(0, self.end)]

    def payload(self) -> bytes:
        return b"".join(self.data[offset] for offset in sorted(self.data))


class Fragments:
    """The incomplete packets of one source. What they hold is part of the source's budget, and fragments that are given
    up are counted in its tally."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._packets: dict[bytes, _Parts] = {}  # the oldest first
        self._held = 0

    def add(self, fragment: Fragment) -> tuple[Fragment, bytes] | None:
        """Add a fragment. Where it completes its packet: the first fragment, and the packet's payload."""
        self._expire(fragment.ts)
        parts = self._packets.get(fragment.key)
        if parts is None:
            parts = self._packets[fragment.key] = _Parts(fragment.ts)
            self._hold(parts.held)
        before = parts.held
        if not parts.add(fragment):
            self._give_up(fragment.key, CONTRADICTORY, 1)
            return None
        self._hold(parts.held - before)
        if parts.complete and parts.first is not None:
            del self._packets[fragment.key]
            self._hold(-parts.held)
            return parts.first, parts.payload()
        while self._held > self._budget.limits.fragment_bytes:
            self._give_up(next(iter(self._packets)), OVER_BOUND)
        return None

    def give_up_all(self, kind: str) -> None:
        """Give up every packet."""
        for key in list(self._packets):
            self._give_up(key, kind)

    def _expire(self, ts: int) -> None:
        """Give up the packets that have waited for too long."""
        while self._packets:
            oldest = next(iter(self._packets))
            if ts - self._packets[oldest].began <= _PATIENCE:
                return
            self._give_up(oldest, INCOMPLETE)

    def _give_up(self, key: bytes, kind: str, besides: int = 0) -> None:
        """Count the fragments of a packet as passed over, and `besides` further ones."""
        parts = self._packets.pop(key)
        self._hold(-parts.held)
        self._budget.tally.pass_over(kind, len(parts.data) + besides)

    def _hold(self, more: int) -> None:
        self._held += more
        self._budget.held += more
