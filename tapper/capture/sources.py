"""The open sources, and the loop that waits for them.

A source is a ring and the reader of its packets. Closing a source takes a moment: its filter lets nothing in any more,
the packets in its ring are read to the last, the reader concludes, and then the socket is closed and with it the hold
on the namespace. All that has a deadline: packets that are not read until then are counted as unread. The sources share
the loop's time (`tapper.capture.share`). The loop also waits for other descriptors: of processes that may die, of a
signal, of an output that may close.
"""

from __future__ import annotations

import errno
import os
import select
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from tapper.capture.mapped import Statistics
from tapper.capture.share import Share, next_round
from tapper.capture.walk import Packets
from tapper.errors import TapperError
from tapper.runtime.threads import on_threads
from tapper.streams.packet import Packet

T = TypeVar("T")

NO_INTERFACE: Final = 0
"""No interface has this index (netdevice(7))."""
LOOK_S = 0.1
"""How often to look for packets in blocks that the kernel still fills. A packet is read at the second look. A wake-up
costs as much as dozens of packets, because the reader's memory has left the processor's caches."""
_PATIENCE_S = 8 * LOOK_S
"""How long a source that closes waits for packets that the kernel has counted."""
DRAINING_S = 1.5
"""How long a source that closes may take to read its ring."""
CONCLUDING_S = 0.4
"""How much longer its reader may take to conclude."""
PORTION: Final = 64 * 1024
"""Bytes that are read between two looks at the clock."""
_START: Final = itemgetter(2)
_OVER_SHARE: Final = 0
"""Stands among the error numbers for a loss of packets by a source that was put back."""


class PacketReader(Protocol[T]):
    """Reads a source's packets."""

    def packets(self, memory: bytes, packets: list[Packet], records: list[T]) -> None:
        """Read IP packets that lie in `memory`. The records of each packet are appended to `records` before the next
        packet is read."""

    def finish(self) -> Iterator[list[T]]:
        """No packet will come. Yields the last records."""


class CaptureRing(Protocol):
    """Packets that wait to be read, as `tapper.capture.ring.Ring` has them."""

    @property
    def cut(self) -> int:
        """Packets that have lost a part."""

    @property
    def bad_checksum(self) -> int:
        """Packets that were left out, because their receiver drops them."""

    @property
    def crowded(self) -> bool:
        """Whether the ring should grow. Ask before reading."""

    @property
    def is_ready(self) -> bool:
        """Whether `packets` has some."""

    @property
    def unread(self) -> int:
        """Packets that were counted and not read."""

    def fileno(self) -> int:
        """For polling: readable when there are packets. Changes in `turn_over`."""

    def packets(self) -> Iterator[Packets]:
        """Some of the packets, some at a time. Must be run to its end."""

    def unfinished(self) -> Packets | None:
        """Packets for which the descriptor is not readable yet."""

    def rest(self) -> Iterator[Packets]:
        """All packets, after `stop`. Must be run to its end."""

    def stop(self) -> None:
        """Let nothing more in."""

    def drained(self) -> bool:
        """Whether every packet was read."""

    def statistics(self) -> Statistics:
        """The counts since the capture began."""

    def error(self) -> int:
        """A pending error number, 0 for none."""

    def close(self) -> None:
        """Release everything."""

    def grow(self, notify: Callable[[], None]) -> bool:
        """Begin to grow. False if it cannot."""

    def turn_over(self) -> bool:
        """Replace the memory by a larger one that is ready. Returns whether `fileno` has changed."""

    def failure(self) -> str:
        """Why growing has failed, once; empty for nothing to say."""


class Source(Generic[T]):
    """One place of capture."""

    __slots__ = (
        "deadline",
        "ignored_interface",
        "key",
        "latest",
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
        self.deadline: float | None = None
        """The time, by time.monotonic, when a closing source is closed if its ring has nothing to read, even if the
        kernel has counted more. None while open."""
        self.latest = 0.0
        """The time when a closing source is closed whatever its ring has."""
        self.share = Share()
        self.waiting: deque[Packets] = deque()
        """Packets that were taken out of the ring and not read yet: at most a block."""
        self.records: list[T] = []
        """The records of the packets that are being read."""
        self.troubles: set[int] = set()
        """Error numbers of the socket that were reported, and _OVER_SHARE."""

    def take(self) -> list[T]:
        """The records that were not taken yet."""
        taken = self.records[:]
        self.records.clear()
        return taken

    @property
    def has_packets(self) -> bool:
        return bool(self.waiting) or self.ring.is_ready

    @property
    def unread(self) -> int:
        """Packets that the kernel has counted and the reader has not read."""
        return sum(len(packets) for _, packets in self.waiting) + self.ring.unread

    def portions(self) -> Iterator[Packets]:
        """The packets that wait, then those of the next block. Run it to its end, or `put_back` the rest."""
        while self.waiting:
            yield self.waiting.popleft()
        yield from _divided(self.ring.packets())

    def look(self) -> bool:
        """Take packets out of the block that the kernel still fills, unless others wait. Returns whether any do."""
        portion = None if self.waiting else self.ring.unfinished()
        if portion is not None:
            self.waiting.extend(_divided([portion]))
        return bool(self.waiting)

    def put_back(self, portions: Iterable[Packets]) -> None:
        """Keep these packets for the next turn."""
        self.waiting = deque(portions)

    def read(self, portion: Packets) -> None:
        """Read some packets."""
        memory, packets = portion
        ignored = self.ignored_interface
        if ignored != NO_INTERFACE:
            packets = [packet for packet in packets if packet[1] != ignored]
        self.reader.packets(memory, packets, self.records)


Deliver: TypeAlias = Callable[[Source[T], list[T]], None]
Trouble: TypeAlias = Callable[[Source[T], str], None]
Closed: TypeAlias = Callable[[Source[T], Statistics], None]


_TOGETHER: Final = 64
"""Threads that close rings. They wait in the kernel rather than work."""


def close_together(rings: Sequence[CaptureRing]) -> None:
    """Close all of them on several threads, because the kernel takes milliseconds for each."""
    if len(rings) < 2:
        for ring in rings:
            ring.close()
        return
    for ring, result in zip(rings, on_threads([ring.close for ring in rings], _TOGETHER), strict=True):
        if isinstance(result, TapperError):  # no thread could be started for it
            ring.close()


class Sources(Generic[T]):
    """The open sources by key, and the loop."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._others = select.poll()
        """As `_poll`, but without the rings."""
        self._sources: dict[Hashable, Source[T]] = {}
        self._rings: dict[int, Source[T]] = {}
        self._watched: dict[int, Callable[[], None]] = {}
        self._grown = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        """Written to by a thread that has made a ring larger, or has failed to."""
        self._poll.register(self._grown, select.POLLIN)
        self._others.register(self._grown, select.POLLIN)
        self._growing: set[Hashable] = set()
        self._shut: set[Hashable] = set()
        self._next_look = 0.0  # by time.monotonic

    def __contains__(self, key: Hashable) -> bool:
        return key in self._sources

    def __iter__(self) -> Iterator[Source[T]]:
        return iter(list(self._sources.values()))

    def __len__(self) -> int:
        return len(self._sources)

    def get(self, key: Hashable) -> Source[T] | None:
        return self._sources.get(key)

    def add(self, source: Source[T]) -> None:
        """Add an open source. Its key must be new."""
        assert source.key not in self._sources, "a source is opened once"
        self._sources[source.key] = source
        self._poll_ring(source)

    def grow(self, source: Source[T]) -> bool:
        """Begin to make a source's ring larger. False where it cannot grow."""
        growing = source.ring.grow(self._notify_grown)
        if growing:
            self._growing.add(source.key)
        return growing

    def shut(self, key: Hashable) -> None:
        """Begin to close a source. It stays until `turn` has drained it."""
        source = self._sources[key]
        if source.deadline is None:
            source.ring.stop()
            now = time.monotonic()
            source.deadline, source.latest = now + _PATIENCE_S, now + DRAINING_S
            self._shut.add(key)

    def discard(self, key: Hashable, closed: Closed[T]) -> None:
        """Close a source at once. Its records that were not delivered are dropped. Not from within `turn`."""
        self._let_go([self._sources[key]], closed)

    def watch(self, descriptor: int, events: int, callback: Callable[[], None]) -> None:
        """Call `callback` in `turn` whenever the descriptor shows one of the events (select.POLL…), an error or an
        end. A further call for the same descriptor replaces the events."""
        self._watched[descriptor] = callback
        self._poll.register(descriptor, events)
        self._others.register(descriptor, events)

    def unwatch(self, descriptor: int) -> None:
        del self._watched[descriptor]
        self._poll.unregister(descriptor)
        self._others.unregister(descriptor)

    def turn(
        self, timeout_s: float, deliver: Deliver[T], trouble: Trouble[T], closed: Closed[T], *, reading: bool = True
    ) -> None:
        """Wait for an event, at most `timeout_s` seconds, and handle it. Rings are not read unless `reading`, but for
        those of sources that close.

        `deliver` gets the records of a source's packets in portions, empty ones included. `trouble` gets a source's
        socket error, each once. `closed` gets a source that was shut and is drained, before it is gone.
        """
        # 1. Wait, no longer than until the next look, or for a source that is to be closed, and not at all for packets
        #    that were put back.
        if self._sources and reading:
            timeout_s = min(timeout_s, self._next_look - time.monotonic())
        waiting = [source for source in self._sources.values() if source.waiting] if reading else []
        if waiting:
            timeout_s = 0.0
        for closing in self._closing():
            left = 0.0 if self._is_drained(closing) else (closing.deadline or 0.0) - time.monotonic()
            timeout_s = min(timeout_s, left)
        # 2. See which rings have packets, and call back for other descriptors.
        ready = dict.fromkeys(waiting)
        for descriptor, events in (self._poll if reading else self._others).poll(max(0, int(timeout_s * 1000 + 0.999))):
            source = self._rings.get(descriptor)
            if source is not None:
                if events & select.POLLERR:
                    self._tell_error(source, trouble)
                ready[source] = None
            elif descriptor == self._grown:
                self._take_grown(trouble)
            elif descriptor in self._watched:  # an earlier callback may have removed it
                self._watched[descriptor]()
        # 3. Look for packets in the blocks that the kernel still fills.
        if reading and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_S
            for source in self._sources.values():
                if source.look():
                    ready[source] = None
                if source.key in self._growing:
                    self._turn_over(source)
        # 4. Read these rings, each until its share is spent.
        ready |= dict.fromkeys(source for source in self._closing() if source.has_packets)
        next_round([source.share for source in ready])
        for source in ready:
            self._read_share(source, deliver, trouble)
        # 5. Close the sources that are drained, or have not been drained in time.
        due = [source for source in self._closing() if self._is_due(source)]
        for source in due:
            self._conclude(source, deliver)
        if due:
            self._let_go(due, closed)

    def close(self) -> None:
        """Close everything. The loop does not run any more, and records that were not delivered are dropped."""
        close_together([source.ring for source in self])
        os.close(self._grown)

    def _tell_error(self, source: Source[T], trouble: Trouble[T]) -> None:
        number = source.ring.error()
        if number not in {0, *source.troubles}:
            source.troubles.add(number)
            trouble(source, os.strerror(number).lower() if number != errno.ENETDOWN else "it is down")

    def _read_share(self, source: Source[T], deliver: Deliver[T], trouble: Trouble[T]) -> None:
        """Read a source until its share is spent, or it has no more packets."""
        share = source.share
        if source.ring.crowded and source.deadline is None:
            self.grow(source)
        if share.spent:
            self._tell_loss(source, trouble)
        before = time.monotonic()
        while not share.spent and source.has_packets:
            portions = source.portions()
            for portion in portions:
                source.read(portion)
                deliver(source, source.take())
                now = time.monotonic()
                before, elapsed = now, now - before
                if share.spend(elapsed):
                    source.put_back(portions)
                    break
        if source.key in self._growing:
            self._turn_over(source)

    def _tell_loss(self, source: Source[T], trouble: Trouble[T]) -> None:
        """Say once that a source loses packets because it was put back."""
        if _OVER_SHARE not in source.troubles and source.ring.statistics().dropped:
            source.troubles.add(_OVER_SHARE)
            trouble(source, "packets are dropped: reading them takes more than this source's share of the time")

    # Sources that close.

    def _is_drained(self, source: Source[T]) -> bool:
        return not source.waiting and source.ring.drained()

    def _is_due(self, source: Source[T]) -> bool:
        now = time.monotonic()
        return (
            self._is_drained(source)
            or now >= source.latest
            or (not source.has_packets and now >= (source.deadline or 0.0))
        )

    def _conclude(self, source: Source[T], deliver: Deliver[T]) -> None:
        """Read what the ring still has, unless time is up, and let the reader conclude."""
        if time.monotonic() < source.latest:
            for portion in _divided(source.ring.rest()):
                source.read(portion)
                deliver(source, source.take())
        for records in source.reader.finish():
            if records:
                deliver(source, records)
            if time.monotonic() >= source.latest + CONCLUDING_S:
                break

    def _closing(self) -> list[Source[T]]:
        return [self._sources[key] for key in self._shut]

    # Rings that grow.

    def _notify_grown(self) -> None:
        """Called on another thread, which ends before its ring is closed."""
        os.eventfd_write(self._grown, 1)

    def _take_grown(self, trouble: Trouble[T]) -> None:
        os.eventfd_read(self._grown)
        for key in list(self._growing):
            source = self._sources[key]
            failure = source.ring.failure()
            if failure:
                trouble(source, f"packets that are captured there may be dropped: {failure}")
            self._turn_over(source)

    def _turn_over(self, source: Source[T]) -> None:
        before = source.ring.fileno()
        if source.ring.turn_over():
            self._growing.discard(source.key)
            self._forget(before)
            self._poll_ring(source)

    def _poll_ring(self, source: Source[T]) -> None:
        self._rings[source.ring.fileno()] = source
        self._poll.register(source.ring.fileno(), select.POLLIN)

    def _forget(self, descriptor: int) -> None:
        del self._rings[descriptor]
        self._poll.unregister(descriptor)

    def _let_go(self, sources: list[Source[T]], closed: Closed[T]) -> None:
        counts = []
        for source in sources:
            counts.append(source.ring.statistics())
            counts[-1].unread = source.unread
        for source in sources:
            self._forget(source.ring.fileno())
            self._shut.discard(source.key)
            self._growing.discard(source.key)
            del self._sources[source.key]
        close_together([source.ring for source in sources])
        for source, statistics in zip(sources, counts, strict=True):
            closed(source, statistics)


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
