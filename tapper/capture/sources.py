"""The open sources, and the loop that waits for them.

Closing a source takes a moment: its filter lets nothing in any more, the packets in its ring are read to the last, the
reader concludes, and then the socket is closed and with it the hold on the namespace. All that has a deadline: packets
that are not read until then are counted as unread. The sources share the loop's time (`tapper.capture.share`). The loop
also waits for other descriptors: of processes that may die, of a signal, of an output that may close.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

from tapper.capture.mapped import CaptureRing, Statistics
from tapper.capture.share import next_round
from tapper.capture.source import Deliver, Source
from tapper.errors import TapperError
from tapper.runtime.threads import on_threads

T = TypeVar("T")

LOOK_S = 0.2
"""How often to look for packets in blocks that the kernel still fills. A wake-up costs as much as dozens of packets,
because the reader's memory has left the processor's caches."""
SECOND_LOOK_S = 0.05
"""A look that has counted packets is followed by a second one, which reads them. So idle sources cost one look each
LOOK_S, and a packet waits no longer than for both."""
_OVER_SHARE: Final = 0
"""Stands among the error numbers for a loss of packets by a source that was put back."""
_TOGETHER: Final = 64
"""Threads that close rings. They wait in the kernel rather than work."""

Trouble: TypeAlias = Callable[[Source[T], str], None]
"""Gets a sentence about a source, each once."""
Closed: TypeAlias = Callable[[Source[T], Statistics], None]
"""Gets a source that is gone, and its last counts."""


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
        self._closing: dict[Source[T], None] = {}
        self._next_look = 0.0  # by time.monotonic
        self._looked_twice = True

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
        if not source.is_closing:
            source.begin_to_close()
            self._closing[source] = None

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

        `deliver` gets the records of a source's packets in portions, empty ones included. `closed` gets a source that
        was shut and is drained.
        """
        # 1. Wait, no longer than until the next look, or for a source that is to be closed, and not at all for packets
        #    that were put back.
        waiting = [source for source in self._sources.values() if source.waiting] if reading else []
        if waiting:
            timeout_s = 0.0
        elif self._sources and reading:
            timeout_s = min(timeout_s, self._next_look - time.monotonic())
        timeout_s = min([timeout_s, *(source.closes_in() for source in self._closing)])
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
            ready |= dict.fromkeys(self._look())
        # 4. Read these rings, each until its share is spent.
        ready |= dict.fromkeys(source for source in self._closing if source.has_packets)
        next_round([source.share for source in ready])
        for source in ready:
            if source.ring.crowded and not source.is_closing:
                self.grow(source)
            if source.share.spent:
                self._tell_loss(source, trouble)
            source.read_share(deliver)
            if source.key in self._growing:
                self._turn_over(source)
        # 5. Close the sources that are drained, or have not been drained in time.
        due = [source for source in self._closing if source.closes_in() <= 0]
        for source in due:
            source.conclude(deliver)
        if due:
            self._let_go(due, closed)

    def close(self) -> None:
        """Close everything. The loop does not run any more, and records that were not delivered are dropped."""
        close_together([source.ring for source in self])
        os.close(self._grown)

    def _look(self) -> list[Source[T]]:
        """Look at all sources. Returns those that have packets to read."""
        found = []
        counted = False
        for source in self._sources.values():
            if source.look():
                found.append(source)
            counted = counted or source.ring.counted
            if source.key in self._growing:
                self._turn_over(source)
        self._looked_twice = not counted or not self._looked_twice
        self._next_look = time.monotonic() + (LOOK_S if self._looked_twice else SECOND_LOOK_S)
        return found

    def _tell_error(self, source: Source[T], trouble: Trouble[T]) -> None:
        number = source.ring.error()
        if number not in {0, *source.troubles}:
            source.troubles.add(number)
            trouble(source, os.strerror(number).lower() if number != errno.ENETDOWN else "it is down")

    def _tell_loss(self, source: Source[T], trouble: Trouble[T]) -> None:
        """Say once that a source loses packets because it was put back."""
        if _OVER_SHARE not in source.troubles and source.ring.statistics().dropped:
            source.troubles.add(_OVER_SHARE)
            trouble(source, "packets are dropped: reading them takes more than this source's share of the time")

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
        counts = [source.final_statistics() for source in sources]
        for source in sources:
            self._forget(source.ring.fileno())
            self._closing.pop(source, None)
            self._growing.discard(source.key)
            del self._sources[source.key]
        close_together([source.ring for source in sources])
        for source, statistics in zip(sources, counts, strict=True):
            closed(source, statistics)
