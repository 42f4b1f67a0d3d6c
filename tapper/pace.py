"""How long a tapper waits from one look at all processes to the next."""

from __future__ import annotations

SHORTEST_INTERVAL_S = 0.5
_SCAN_SHARE = 20  # a scan may take a twentieth of the time
_LONGEST_INTERVAL_S = 0.8
"""However much that is: a new pod is to be seen within a second."""
_TOLD_INTERVAL_S = 4.0


def interval(cost: float, *, told: bool) -> float:
    """Seconds, after a look that took `cost` seconds. `told`: all that it found is captured in, and the kernel tells of
    every program that begins."""
    return min(max(SHORTEST_INTERVAL_S, _SCAN_SHARE * cost), _TOLD_INTERVAL_S if told else _LONGEST_INTERVAL_S)
