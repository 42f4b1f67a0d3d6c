"""How much memory the rings of one run take together, and how large each begins and grows.

The kernel takes a ring's memory at once and for as long as the ring lives, so a node with hundreds of pods cannot have
a large ring for each. Every ring begins small, and later rings smaller: each gets a twelfth of what is left of one half
of the memory. The other half is for rings that grow.

    total 256 MiB: 5 rings begin with 8 MiB, 11 more with 4 MiB, as many with 2 MiB, 1 MiB, 512 KiB; all others 256 KiB

Growing takes up to 50 ms on a busy machine. At the highest rates that were measured on a pod's lo, 8 MiB last longer
than that.
"""

from __future__ import annotations

import threading

from tapper.capture.mapped import SMALLEST_BLOCK
from tapper.errors import TapperError

MIB = 1 << 20
TOTAL = 256 * MIB
"""Bytes, unless --ring-memory says otherwise."""

_SMALLEST, _FIRST, _LARGEST = 2 * SMALLEST_BLOCK, 8 * MIB, 32 * MIB
_STEP = 8  # a burst fills a ring that was only doubled before it can be doubled again


class RingMemory:
    """The memory of all rings, in bytes. For several threads."""

    def __init__(self, total: int = TOTAL) -> None:
        self._total = total
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        return self._taken

    def first(self) -> int:
        """Take the first size of a new ring. Raises TapperError where nothing is left."""
        with self._lock:
            share = max(0, self._total // 2 - self._taken) // 12
            size = max(_SMALLEST, min(_FIRST, _power_of_two(share)))
            if self._taken + size > self._total:
                limit = self._total // MIB
                raise TapperError(f"the {limit} MiB for packet rings are taken: allow more with --ring-memory")
            self._taken += size
            return size

    def more(self, size: int) -> int:
        """Take the size that a ring of this size grows to; 0 where it cannot grow."""
        with self._lock:
            larger = min(size * _STEP, _LARGEST, _power_of_two(self._total - self._taken))
            if larger <= size:
                return 0
            self._taken += larger
            return larger

    def give_back(self, size: int) -> None:
        with self._lock:
            self._taken -= size


def _power_of_two(number: int) -> int:
    """The largest power of two that is no larger than the number; 0 where there is none."""
    return 1 << number.bit_length() - 1 if number > 0 else 0
