"""The open sources and the one loop that waits for them.

A source is a ring and whoever reads its packets. Closing one takes a moment: the filter is shut, what the kernel has
already taken is read to the last packet, the reader concludes, and only then the socket goes and with it the hold on
the namespace. The loop also waits for descriptors that are no rings: processes that may die, a signal, an output that
closes.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from tapper.capture.mapped import RETIRE_MS, Statistics
from tapper.capture.ring import Ring, close_together
from tapper.capture.walk import Packets
from tapper.streams.packet import Packet

T = TypeVar("T")

NO_INTERFACE: Final = 0
"""No interface has this index (netdevice(7))."""
_PATIENCE_S = 4 * RETIRE_MS / 1000
"""A block is handed over within two retire time-outs; nothing that comes later can be waited for."""


class Reader(Protocol[T]):
    """Whoever reads a source's packets."""

    def packets(self, memory: bytes, found: list[Packet], made: list[T]) -> None:
        """Some IP packets, which lie in `memory`. What each of them makes goes into `made`, before the next is read."""

    def finish(self) -> list[T]:
        """No more packets will come."""


class Source(Generic[T]):
    """One place of capture."""

    __slots__ = ("deadline", "ignored_interface", "key", "made", "reader", "ring", "troubles")

    def __init__(self, key: Hashable, ring: Ring, reader: Reader[T]) -> None:
        self.key = key
        self.ring = ring
        self.reader = reader
        self.ignored_interface = NO_INTERFACE
        """The index of an interface whose packets another source reports."""
        self.deadline: float | None = None
        """When, by time.monotonic, a closing source is closed whether drained or not; None while it is open."""
        self.made: list[T] = []
        """What the packets of the portion that is being read have made so far."""
        self.troubles: set[int] = set()
        """Error numbers of the socket that have been told already."""

    def take(self) -> list[T]:
        """What was made and not yet taken."""
        taken = self.made[:]
        self.made.clear()
        return taken

    def read(self, portion: Packets) -> None:
        """Have these packets read."""
        memory, found = portion
        ignored = self.ignored_interface
        if ignored != NO_INTERFACE:
            found = [packet for packet in found if packet[1] != ignored]
        self.reader.packets(memory, found, self.made)


Deliver: TypeAlias = Callable[[Source[T], list[T]], None]


class Sources(Generic[T]):
    """The open sources by key, and the loop."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._sources: dict[Hashable, Source[T]] = {}
        self._rings: dict[int, Source[T]] = {}
        self._watched: dict[int, Callable[[], None]] = {}
        self._grown = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        """Written to when a ring has become larger, or could not."""
        self._poll.register(self._grown, select.POLLIN)
        self._growing: set[Hashable] = set()
        self._shut: set[Hashable] = set()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._sources

    def __iter__(self) -> Iterator[Source[T]]:
        return iter(list(self._sources.values()))

    def __len__(self) -> int:
        return len(self._sources)

    def get(self, key: Hashable) -> Source[T] | None:
        return self._sources.get(key)

    def add(self, source: Source[T]) -> None:
        """Take an open source in; its key must be new."""
        assert source.key not in self._sources, "a source is opened once"
        self._sources[source.key] = source
        self._poll_ring(source)

    def shut(self, key: Hashable) -> None:
        """Begin to close a source. It stays until `turn` has drained it."""
        source = self._sources[key]
        if source.deadline is None:
            source.ring.stop()
            source.deadline = time.monotonic() + _PATIENCE_S
            self._shut.add(key)

    def discard(self, key: Hashable, closed: Callable[[Source[T], Statistics], None]) -> None:
        """Close a source at once; what it has seen and not yet delivered is thrown away. Not from within `turn`."""
        self._let_go([self._sources[key]], closed)

    def watch(self, descriptor: int, events: int, callback: Callable[[], None]) -> None:
        """Call `callback` in `turn` whenever the descriptor shows one of the events (select.POLL…), an error or an
        end."""
        self._watched[descriptor] = callback
        self._poll.register(descriptor, events)

    def unwatch(self, descriptor: int) -> None:
        del self._watched[descriptor]
        self._poll.unregister(descriptor)

    def turn(
        self,
        timeout_s: float,
        deliver: Deliver[T],
        trouble: Callable[[Source[T], str], None],
        closed: Callable[[Source[T], Statistics], None],
    ) -> None:
        """Wait for something to happen, at most so long, and deal with it.

        `deliver` gets what a source's packets made, in portions, also where that is nothing; `trouble` a source's
        socket error, once for each; `closed` a source that was shut and is drained, before it is gone.
        """
        for closing in self._closing():
            left = 0.0 if closing.ring.drained() else (closing.deadline or 0.0) - time.monotonic()
            timeout_s = min(timeout_s, left)
        for descriptor, events in self._poll.poll(max(0, int(timeout_s * 1000 + 0.999))):
            source = self._rings.get(descriptor)
            if source is None:
                if descriptor == self._grown:
                    self._take_grown(trouble)
                callback = self._watched.get(descriptor)
                if callback is not None:  # an earlier callback may have removed it
                    callback()
                continue
            if events & select.POLLERR:
                number = source.ring.error()
                if number not in {0, *source.troubles}:
                    source.troubles.add(number)
                    trouble(source, os.strerror(number).lower() if number != errno.ENETDOWN else "it is down")
            if source.ring.crowded and source.deadline is None and source.ring.grow(self._tell_grown):
                self._growing.add(source.key)
            self._read(source, source.ring.packets(), deliver)
            if source.key in self._growing:
                self._turn_over(source)
        if not self._shut:
            return
        now = time.monotonic()
        due = [each for each in self._closing() if each.ring.drained() or now >= (each.deadline or 0.0)]
        for closing in due:
            self._read(closing, closing.ring.rest(), deliver)
            deliver(closing, closing.reader.finish())
        self._let_go(due, closed)

    def _read(self, source: Source[T], portions: Iterator[Packets], deliver: Deliver[T]) -> None:
        for portion in portions:
            source.read(portion)
            deliver(source, source.take())

    def close(self) -> None:
        """Let go of everything; the loop is not run any more. What was not delivered is thrown away."""
        close_together([source.ring for source in self])
        os.close(self._grown)

    def _closing(self) -> list[Source[T]]:
        return [self._sources[key] for key in self._shut]

    # Rings that grow.

    def _tell_grown(self) -> None:
        """On another thread, which is over before its ring is closed."""
        os.eventfd_write(self._grown, 1)

    def _take_grown(self, trouble: Callable[[Source[T], str], None]) -> None:
        os.eventfd_read(self._grown)
        for key in list(self._growing):
            source = self._sources[key]
            failure = source.ring.failure()
            if failure:
                trouble(source, f"what is captured there may be dropped: {failure}")
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

    def _let_go(self, sources: list[Source[T]], closed: Callable[[Source[T], Statistics], None]) -> None:
        counted = [source.ring.statistics() for source in sources]
        for source in sources:
            self._forget(source.ring.fileno())
            self._shut.discard(source.key)
            self._growing.discard(source.key)
            del self._sources[source.key]
        close_together([source.ring for source in sources])
        for source, statistics in zip(sources, counted, strict=True):
            closed(source, statistics)
