"""A source: one place of capture, with a ring and the reader of its packets."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from operator import itemgetter
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from tapper.capture.mapped import CaptureRing, Statistics
from tapper.capture.share import Share
from tapper.capture.walk import Packets
from tapper.streams.packet import Packet

T = TypeVar("T")

NO_INTERFACE: Final = 0
"""No interface has this index (netdevice(7))."""
PORTION: Final = 64 * 1024
"""Bytes that are read between two looks at the clock."""
DRAINING_S = 1.5
"""How long a source that closes may take to read its ring."""
CONCLUDING_S = 0.4
"""How much longer its reader may take to conclude."""
_PATIENCE_S = 0.8
"""How long a source that closes waits for packets that the kernel has counted."""
_START: Final = itemgetter(2)


class PacketReader(Protocol[T]):
    """Reads a source's packets."""

    def packets(self, memory: bytes, packets: list[Packet], records: list[T]) -> None:
        """Read IP packets that lie in `memory`. The records of each packet are appended to `records` before the next
        packet is read."""

    def finish(self) -> Iterator[list[T]]:
        """No packet will come. Yields the last records."""


class Source(Generic[T]):
    """One place of capture."""

    __slots__ = (
        "_latest",
        "_patience",
        "ignored_interface",
        "is_closing",
        "key",
        "reader",
        "records",
        "ring",
        "share",
        "troubles",
        "waiting",
    )

    def __init__(self, key: Hashable, ring: CaptureRing, reader: PacketReader[T]) -> None:
        self.key = key
        self.ring = ring
        self.reader = reader
        self.ignored_interface = NO_INTERFACE
        """The index of an interface whose packets another source reports."""
        self.is_closing = False
        # Until when a closing source waits for packets that the kernel has counted, and until when it reads packets.
        self._patience = self._latest = 0.0
        self.share = Share()
        self.waiting: deque[Packets] = deque()
        """Packets that were taken out of the ring and not read yet: at most a block."""
        self.records: list[T] = []
        """The records of the packets that are being read."""
        self.troubles: set[int] = set()
        """Error numbers of the socket that were reported, and a mark of `Sources`."""

    # Reading.

    @property
    def has_packets(self) -> bool:
        return bool(self.waiting) or self.ring.is_ready

    def look(self) -> bool:
        """Take packets out of the block that the kernel still fills, unless others wait. Returns whether any do."""
        portion = None if self.waiting else self.ring.unfinished()
        if portion is not None:
            self.waiting.extend(_divided([portion]))
        return bool(self.waiting)

    def read_share(self, deliver: Deliver[T]) -> None:
        """Read packets until the share is spent, or there are no more."""
        share, before = self.share, time.monotonic()
        while not share.spent and self.has_packets:
            portions = self._portions()
            for portion in portions:
                self._read(portion, deliver)
                now = time.monotonic()
                before, elapsed = now, now - before
                if share.spend(elapsed):
                    self.waiting = deque(portions)  # for the next turn
                    break

    def _portions(self) -> Iterator[Packets]:
        """The packets that wait, then those of the next block. Run it to its end."""
        while self.waiting:
            yield self.waiting.popleft()
        yield from _divided(self.ring.packets())

    def _read(self, portion: Packets, deliver: Deliver[T]) -> None:
        memory, packets = portion
        ignored = self.ignored_interface
        if ignored != NO_INTERFACE:
            packets = [packet for packet in packets if packet[1] != ignored]
        self.reader.packets(memory, packets, self.records)
        taken = self.records[:]
        self.records.clear()
        deliver(self, taken)

    # Closing.

    def begin_to_close(self) -> None:
        self.ring.stop()
        self.is_closing = True
        self._patience = time.monotonic() + _PATIENCE_S
        self._latest = time.monotonic() + DRAINING_S

    def closes_in(self) -> float:
        """Seconds until a closing source is due, if no packet comes before; 0 or less for now. It is due when every
        packet is read that the kernel has counted, or when its time is up."""
        if not self.waiting and self.ring.drained():
            return 0.0
        return (self._latest if self.has_packets else self._patience) - time.monotonic()

    def conclude(self, deliver: Deliver[T]) -> None:
        """Read what the ring still has, unless time is up, and let the reader conclude."""
        if time.monotonic() < self._latest:
            for portion in _divided(self.ring.rest()):
                self._read(portion, deliver)
        for records in self.reader.finish():
            if records:
                deliver(self, records)
            if time.monotonic() >= self._latest + CONCLUDING_S:
                break

    def final_statistics(self) -> Statistics:
        """The counts, with the packets that the kernel has counted and nobody has read."""
        statistics = self.ring.statistics()
        statistics.unread = sum(len(packets) for _, packets in self.waiting) + self.ring.unread
        return statistics


Deliver: TypeAlias = Callable[[Source[T], list[T]], None]
"""Gets the records of some packets of a source."""


def _divided(portions: Iterable[Packets]) -> Iterator[Packets]:
    """The same packets, at most PORTION bytes at a time or one packet."""
    for memory, packets in portions:
        at = 0
        while at < len(packets) and packets[-1][3] - packets[at][2] > PORTION:
            stop = max(at + 1, bisect_left(packets, packets[at][2] + PORTION, at, key=_START))
            yield memory, packets[at:stop]
            at = stop
        if at < len(packets) or not packets:
            yield memory, packets[at:] if at else packets
