"""What bounds a source's memory, and what a source counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SECOND: Final = 1_000_000_000
HELD_BY_SOURCE: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a source's memory. Past a bound something is given up, and counted as given up."""

    connections: int = 32_768
    waiting: int = 4_096
    waiting_bytes: int = 256 * 1024
    """Held for one half that waits for its other half."""
    hole_bytes: int = 1 << 20
    """Held behind one hole in a stream."""
    held_bytes: int = HELD_BY_SOURCE
    """Held by one source in all."""


@dataclass(slots=True)
class Tally:
    """What a source counted."""

    packets: int = 0
    malformed: int = 0
    """Packets that are not IP with a TCP header in it, or whose lengths contradict each other."""
    mesh: int = 0
    """Packets of Envoy's and Istio's own listeners, skipped."""
    connections: int = 0
    copies: int = 0
    """Connections seen once more under a translated address, and not reported again."""
    gaps: int = 0
    gap_bytes: int = 0
    given_up: int = 0
    """Connections dropped because a bound was reached, or because their sockets are gone although no end was seen."""
