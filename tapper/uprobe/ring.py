"""The ring of one pod: records of the BPF programs in, packets out (Documentation/bpf/ringbuf.rst).

A page that this process writes has the consumer's position, the next one the producer's. The data follow twice, so that
no record is broken at the end. A record begins with its length and flags in 4 bytes, and a place for the kernel.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from tapper.capture.mapped import CaptureRing, Statistics
from tapper.capture.walk import Packets
from tapper.uprobe import bpf
from tapper.uprobe.segments import Segments

_BUSY, _DISCARDED, _LENGTH = 1 << 31, 1 << 30, (1 << 30) - 1
_HEADER: Final = 8
_AT_ONCE: Final = 1 << 18
"""Bytes that become packets at a time."""


class ProbeRing(CaptureRing):
    """`size` in bytes: a power of two, and whole pages. `losses` returns the lost and the cut records; `stop` makes the
    programs write no more. What is not read was not counted, either. Construction raises OSError."""

    def __init__(
        self, size: int, segments: Segments, losses: Callable[[], tuple[int, int]], stop: Callable[[], None]
    ) -> None:
        self.size = size
        self.map = bpf.create_map(bpf.MAP_RINGBUF, 0, 0, size)
        page = mmap.PAGESIZE
        try:
            self._consumer = mmap.mmap(self.map, page)
            self._producer = mmap.mmap(self.map, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        except OSError:
            os.close(self.map)
            raise
        # Words, which are read and written at once.
        self._read = memoryview(self._consumer)[:8].cast("Q")
        self._written = memoryview(self._producer)[:8].cast("Q")
        self._data = memoryview(self._producer)[page:]
        self._words = self._data.cast("I")
        self._segments = segments
        self._losses = losses
        self._stop = stop
        self._records = 0

    def fileno(self) -> int:
        """For polling: readable while records wait. The kernel wakes who waits only where an eighth of it is full."""
        return self.map

    @property
    def is_ready(self) -> bool:
        return not self.drained()

    def packets(self) -> Iterator[Packets]:
        return islice(self.rest(), 1)

    def rest(self) -> Iterator[Packets]:
        at, end, mask = self._read[0], self._written[0], self.size - 1
        # The programs have the kernel's monotonic time; a clock that is set meanwhile shifts what comes later.
        shift = time.time_ns() - time.monotonic_ns()
        while at < end:
            stop = min(end, at + _AT_ONCE)
            while at < stop:
                place = at & mask
                head = self._words[place >> 2]
                if head & _BUSY:
                    end = at
                    break
                length = head & _LENGTH
                if not head & _DISCARDED:
                    self._records += 1
                    start = place + _HEADER
                    self._segments.take(self._data[start : start + length], shift)
                at += _HEADER + (length + 7 & ~7)
            self._read[0] = at  # the programs may use this room
            yield self._segments.packets()

    def drained(self) -> bool:
        return bool(self._read[0] == self._written[0])

    def stop(self) -> None:
        self._stop()

    @property
    def cut(self) -> int:
        return self._losses()[1]

    def statistics(self) -> Statistics:
        return Statistics(self._records, self._losses()[0])

    def close(self) -> None:
        self._stop()
        for view in (self._read, self._written, self._words, self._data):
            view.release()
        self._consumer.close()
        self._producer.close()
        os.close(self.map)
