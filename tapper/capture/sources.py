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
from typing import Generic, Protocol, TypeVar

from tapper.capture.ring import RETIRE_MS, Ring, Statistics

T = TypeVar("T")

_PATIENCE_S = 4 * RETIRE_MS / 1000
"""A block is handed over within two retire time-outs; nothing that comes later can be waited for."""


class Reader(Protocol[T]):
    """Whoever reads a source's packets."""

    def packet(self, ts: int, packet: memoryview) -> list[T]:
        """One IP packet, valid only during the call; ts in nanoseconds since 1970."""

    def finish(self) -> list[T]:
        """No more packets will come."""


class Source(Generic[T]):
    """One place of capture."""

    __slots__ = ("deadline", "ignored_interface", "key", "reader", "ring", "troubles")

    def __init__(self, key: Hashable, ring: Ring, reader: Reader[T]) -> None:
        self.key = key
        self.ring = ring
        self.reader = reader
        self.ignored_interface: int | None = None
        """The index of an interface whose packets another source reports."""
        self.deadline: float | None = None
        """When, by time.monotonic, a closing source is closed whether drained or not; None while it is open."""
        self.troubles: set[int] = set()
        """Error numbers of the socket that have been told already."""

    def read(self) -> Iterator[T]:
        """What the packets that are ready make. Must be run to its end."""
        take, ignored = self.reader.packet, self.ignored_interface
        for ts, ifindex, data in self.ring.packets():
            if ifindex != ignored:
                yield from take(ts, data)


class Sources(Generic[T]):
    """The open sources by key, and the loop."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._sources: dict[Hashable, Source[T]] = {}
        self._rings: dict[int, Source[T]] = {}
        self._watched: dict[int, Callable[[], None]] = {}

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
        self._rings[source.ring.fileno()] = source
        self._poll.register(source.ring.fileno(), select.POLLIN)

    def shut(self, key: Hashable) -> None:
        """Begin to close a source. It stays until `turn` has drained it."""
        source = self._sources[key]
        if source.deadline is None:
            source.ring.stop()
            source.deadline = time.monotonic() + _PATIENCE_S

    def discard(self, key: Hashable, closed: Callable[[Source[T], Statistics], None]) -> None:
        """Close a source at once; what it has seen and not yet delivered is thrown away. Not from within `turn`."""
        self._let_go(self._sources[key], closed)

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
        deliver: Callable[[Source[T], Iterator[T]], None],
        trouble: Callable[[Source[T], str], None],
        closed: Callable[[Source[T], Statistics], None],
    ) -> None:
        """Wait for something to happen, at most so long, and deal with it.

        `deliver` gets what a source's packets made, and must run it to its end; `trouble` a source's socket error,
        once for each; `closed` a source that was shut and is drained, before it is gone.
        """
        for closing in self:
            if closing.deadline is not None:
                left = 0.0 if closing.ring.drained() else closing.deadline - time.monotonic()
                timeout_s = min(timeout_s, left)
        for descriptor, events in self._poll.poll(max(0, int(timeout_s * 1000 + 0.999))):
            source = self._rings.get(descriptor)
            if source is None:
                callback = self._watched.get(descriptor)
                if callback is not None:  # an earlier callback may have removed it
                    callback()
                continue
            if events & select.POLLERR:
                number = source.ring.error()
                if number not in {0, *source.troubles}:
                    source.troubles.add(number)
                    trouble(source, os.strerror(number).lower() if number != errno.ENETDOWN else "it is down")
            deliver(source, source.read())
        for closing in self:
            if closing.deadline is not None and (closing.ring.drained() or time.monotonic() >= closing.deadline):
                self._close(closing, deliver, closed)

    def _close(
        self,
        source: Source[T],
        deliver: Callable[[Source[T], Iterator[T]], None],
        closed: Callable[[Source[T], Statistics], None],
    ) -> None:
        deliver(source, source.read())
        deliver(source, iter(source.reader.finish()))
        self._let_go(source, closed)

    def _let_go(self, source: Source[T], closed: Callable[[Source[T], Statistics], None]) -> None:
        statistics = source.ring.statistics()
        self._poll.unregister(source.ring.fileno())
        del self._rings[source.ring.fileno()]
        del self._sources[source.key]
        source.ring.close()
        closed(source, statistics)
