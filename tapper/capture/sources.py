"""The open sources, and the loop that waits for them.

A source is a ring and the reader of its packets. Closing a source takes a moment: its filter lets nothing in any more,
the packets in its ring are read to the last, the reader concludes, and then the socket is closed and with it the hold
on the namespace. The loop also waits for other descriptors: of processes that may die, of a signal, of an output that
may close.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from tapper.capture.mapped import Statistics
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


class PacketReader(Protocol[T]):
    """Reads a source's packets."""

    def packets(self, memory: bytes, packets: list[Packet], records: list[T]) -> None:
        """Read IP packets that lie in `memory`. The records of each packet are appended to `records` before the next
        packet is read."""

    def finish(self) -> list[T]:
        """No packet will come. Returns the last records."""


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

    __slots__ = ("deadline", "ignored_interface", "key", "reader", "records", "ring", "troubles")

    def __init__(self, key: Hashable, ring: CaptureRing, reader: PacketReader[T]) -> None:
        self.key = key
        self.ring = ring
        self.reader = reader
        self.ignored_interface = NO_INTERFACE
        """The index of an interface whose packets another source reports."""
        self.deadline: float | None = None
        """The time, by time.monotonic, when a closing source is closed even if it is not drained. None while open."""
        self.records: list[T] = []
        """The records of the packets that are being read."""
        self.troubles: set[int] = set()
        """Error numbers of the socket that were reported."""

    def take(self) -> list[T]:
        """The records that were not taken yet."""
        taken = self.records[:]
        self.records.clear()
        return taken

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
            source.deadline = time.monotonic() + _PATIENCE_S
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
        # 1. Wait, no longer than until the next look, or for a source that is to be closed.
        if self._sources and reading:
            timeout_s = min(timeout_s, self._next_look - time.monotonic())
        for closing in self._closing():
            left = 0.0 if closing.ring.drained() else (closing.deadline or 0.0) - time.monotonic()
            timeout_s = min(timeout_s, left)
        # 2. Read the rings that have packets, and call back for other descriptors.
        for descriptor, events in (self._poll if reading else self._others).poll(max(0, int(timeout_s * 1000 + 0.999))):
            source = self._rings.get(descriptor)
            if source is not None:
                self._read_ready(source, events, deliver, trouble)
            elif descriptor == self._grown:
                self._take_grown(trouble)
            elif descriptor in self._watched:  # an earlier callback may have removed it
                self._watched[descriptor]()
        # 3. Look for packets in the blocks that the kernel still fills.
        now = time.monotonic()
        if reading and now >= self._next_look:
            self._next_look = now + LOOK_S
            for source in self._sources.values():
                self._look(source, deliver)
        # 4. Close the sources that are drained, or have not been drained in time.
        due = [source for source in self._closing() if source.ring.drained() or now >= (source.deadline or 0.0)]
        for source in due:
            self._read(source, source.ring.rest(), deliver)
            deliver(source, source.reader.finish())
        if due:
            self._let_go(due, closed)

    def close(self) -> None:
        """Close everything. The loop does not run any more, and records that were not delivered are dropped."""
        close_together([source.ring for source in self])
        os.close(self._grown)

    def _read_ready(self, source: Source[T], events: int, deliver: Deliver[T], trouble: Trouble[T]) -> None:
        if events & select.POLLERR:
            number = source.ring.error()
            if number not in {0, *source.troubles}:
                source.troubles.add(number)
                trouble(source, os.strerror(number).lower() if number != errno.ENETDOWN else "it is down")
        if source.ring.crowded and source.deadline is None:
            self.grow(source)
        self._read(source, source.ring.packets(), deliver)
        if source.key in self._growing:
            self._turn_over(source)

    def _look(self, source: Source[T], deliver: Deliver[T]) -> None:
        portion = source.ring.unfinished()
        if portion is not None:
            source.read(portion)
            deliver(source, source.take())
        if source.key in self._growing:
            self._turn_over(source)

    def _read(self, source: Source[T], portions: Iterator[Packets], deliver: Deliver[T]) -> None:
        for portion in portions:
            source.read(portion)
            deliver(source, source.take())

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
        counts = [source.ring.statistics() for source in sources]
        for source in sources:
            self._forget(source.ring.fileno())
            self._shut.discard(source.key)
            self._growing.discard(source.key)
            del self._sources[source.key]
        close_together([source.ring for source in sources])
        for source, statistics in zip(sources, counts, strict=True):
            closed(source, statistics)
