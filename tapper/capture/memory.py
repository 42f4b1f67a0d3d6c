"""How much memory the rings of one run may take together, and how large each begins and may become.

The kernel takes a ring's memory at once and for as long as the ring lives, so a node with hundreds of pods cannot have
a large one for each. Every ring begins small, the later ones smaller: each gets a twelfth of what is left of the half
that is for beginnings. The other half is for those that have much to carry.

    total 256 MiB: 5 rings begin with 8 MiB, 11 more with 4 MiB, as many with 2 MiB, 1 MiB, 512 KiB; all others 256 KiB

To become larger takes a ring up to 50 ms where the processors are busy. 8 MiB last for longer than that at the highest
rates that were seen on a pod's lo.
"""

from __future__ import annotations

import threading

from tapper.capture.mapped import SMALLEST_BLOCK
from tapper.errors import TapperError

MIB = 1 << 20
TOTAL = 256 * MIB
"""In bytes, unless --ring-memory says otherwise."""

_SMALLEST, _FIRST, _LARGEST = 2 * SMALLEST_BLOCK, 8 * MIB, 32 * MIB
_STEP = 8  # a burst has filled what a ring was doubled to before it is doubled again


class RingMemory:
    """What is taken of it, in bytes. For several threads."""

    def __init__(self, total: int = TOTAL) -> None:
        self._total = total
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        return self._taken

    def first(self) -> int:
        """Take what a new ring begins with. Raises TapperError where there is nothing left."""
        with self._lock:
            share = max(0, self._total // 2 - self._taken) // 12
            size = max(_SMALLEST, min(_FIRST, _power_of_two(share)))
            if self._taken + size > self._total:
                limit = self._total // MIB
                raise TapperError(f"the {limit} MiB for packet rings are taken: allow more with --ring-memory")
            self._taken += size
            return size

    def more(self, size: int) -> int:
        """Take what a ring of this size can be replaced by; 0 where it cannot become larger."""
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
    """The largest that is no larger; 0 for none."""
    return 1 << number.bit_length() - 1 if number > 0 else 0
