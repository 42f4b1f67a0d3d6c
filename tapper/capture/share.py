"""One source's share of the loop's time.

The sources take turns by deficit round robin (Shreedhar and Varghese, 1995), measured in time instead of bytes. A byte
of one sender may take much more time than a byte of another. In each round a source with packets gets QUANTUM_S, and is
read until that is spent. A source that has spent more is in debt, and is put back in the next rounds. So a sender of
costly packets delays its own source, whose ring then overflows. The other sources wait for a few milliseconds.

The time is that of the clock and not of the processor: it includes the writing of the records, which may have to wait
for the output's reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

QUANTUM_S: Final = 0.01
"""At the usual price of a byte, 1 MB of packets and less of a small ring."""
_MOST_OWED_S: Final = 2.0
"""The largest debt. A process may be stopped and continued while it reads a source."""


class Share:
    """What a source may still spend."""

    __slots__ = ("credit_s", "postponed")

    def __init__(self) -> None:
        self.credit_s = QUANTUM_S
        """Seconds; less than 0 for a debt."""
        self.postponed = 0
        """Rounds in which the source was put back, because it was in debt while others had packets."""

    @property
    def spent(self) -> bool:
        return self.credit_s <= 0

    def spend(self, seconds: float) -> bool:
        """Returns whether the source has to stop."""
        self.credit_s = max(self.credit_s - seconds, -_MOST_OWED_S)
        return self.spent


def next_round(shares: Sequence[Share]) -> None:
    """Give each source that has packets its quantum. Rounds in which all of them would be put back are left out, so
    nobody waits for nobody. Counts the sources that are put back."""
    if not shares:
        return
    richest = max(share.credit_s for share in shares)
    quantum = QUANTUM_S if richest > -QUANTUM_S else QUANTUM_S - richest
    for share in shares:
        share.credit_s = min(share.credit_s + quantum, QUANTUM_S)
        share.postponed += share.spent
