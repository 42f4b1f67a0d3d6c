"""The ring of one pod: records of the BPF programs in, packets out (Documentation/bpf/ringbuf.rst).

A page that this process writes has the consumer's position, the next one the producer's. The data follow twice, so that
no record is broken at the end. A record begins with its length and flags in 4 bytes, and a place for the kernel.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator
from itertools import islice
from typing import Final

from tapper.capture.mapped import CaptureRing, Statistics
from tapper.capture.walk import Packets
from tapper.uprobe import bpf
from tapper.uprobe.probes import Probes
from tapper.uprobe.segments import Segments

_BUSY, _DISCARDED, _LENGTH = 1 << 31, 1 << 30, (1 << 30) - 1
_HEADER: Final = 8
_AT_ONCE: Final = 1 << 18
"""Bytes that become packets at a time."""


class ProbeRing(CaptureRing):
    """The ring of the network namespace with this inode. `size` in bytes: a power of two, and whole pages. What is not
    read was not counted, either. Construction raises OSError."""

    def __init__(self, probes: Probes, inode: int, size: int, segments: Segments) -> None:
        self.size = size
        self.closed = False
        self._probes = probes
        self._inode = inode
        self._segments = segments
        self._taken = 0
        self._map = bpf.create_map(bpf.MAP_RINGBUF, 0, 0, size)
        page = mmap.PAGESIZE
        try:
            self._consumer = mmap.mmap(self._map, page)
            self._producer = mmap.mmap(self._map, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
            probes.admit(inode, self._map)
        except OSError:
            os.close(self._map)
            raise
        # Words, which are read and written at once.
        self._read = memoryview(self._consumer)[:8].cast("Q")
        self._written = memoryview(self._producer)[:8].cast("Q")
        self._data = memoryview(self._producer)[page:]
        self._words = self._data.cast("I")
        self._lost, self._cut = 0, 0

    def fileno(self) -> int:
        """For polling: readable while records wait. The kernel wakes who waits only where an eighth of it is full."""
        return self._map

    @property
    def is_ready(self) -> bool:
        return not self.drained()

    def packets(self) -> Iterator[Packets]:
        return islice(self.rest(), 1)

    def rest(self) -> Iterator[Packets]:
        # The programs have the kernel's monotonic time; a clock that is set meanwhile shifts what comes later.
        shift = time.time_ns() - time.monotonic_ns()
        before = None
        while before != self._read[0]:
            before = self._read[0]
            for record in self.records(_AT_ONCE):
                self._segments.take(record, shift)
            yield self._segments.packets()

    def records(self, size: int) -> Iterator[memoryview]:
        """The records in the next bytes, about so many; each is there until the next one. Must be run to its end."""
        at, mask = self._read[0], self.size - 1
        stop = min(self._written[0], at + size)
        while at < stop:
            place = at & mask
            head = self._words[place >> 2]
            if head & _BUSY:
                break
            length = head & _LENGTH
            if not head & _DISCARDED:
                self._taken += 1
                start = place + _HEADER
                yield self._data[start : start + length]
            at += _HEADER + (length + 7 & ~7)
        self._read[0] = at  # the programs may use this room

    def drained(self) -> bool:
        return bool(self._read[0] == self._written[0])

    def stop(self) -> None:
        self._probes.dismiss(self._inode)

    @property
    def cut(self) -> int:
        self._count()
        return self._cut + self._segments.unreadable

    def statistics(self) -> Statistics:
        self._count()
        return Statistics(self._taken, self._lost + self._segments.lost)

    def _count(self) -> None:
        if not self.closed:
            self._lost, self._cut = self._probes.losses(self._inode)

    def close(self) -> None:
        self.stop()
        self._count()
        self.closed = True
        self._probes.forget_losses(self._inode)
        for view in (self._read, self._written, self._words, self._data):
            view.release()
        self._consumer.close()
        self._producer.close()
        os.close(self._map)
