"""How long a tapper waits from one look at all processes to the next."""

from __future__ import annotations

SHORTEST_INTERVAL_S = 0.5
_SCAN_SHARE = 20  # a scan may take a twentieth of the time
_LONGEST_INTERVAL_S = 0.8
"""However much that is: a new pod is to be seen within a second."""
_TOLD_INTERVAL_S = 4.0
_SLACK_S = 0.2
"""A look waits so much longer for something else to wake the tapper: being woken costs more than looking."""


def interval(cost: float, *, told: bool) -> tuple[float, float]:
    """Seconds, after a look that took `cost` seconds: from when on to look again where the tapper is awake anyway, and
    when to be woken for it. `told`: all that it found is captured in, and the kernel tells of every program that
    begins."""
    longest = _TOLD_INTERVAL_S if told else _LONGEST_INTERVAL_S
    shortest = min(max(SHORTEST_INTERVAL_S, _SCAN_SHARE * cost), longest)
    return shortest, min(shortest + _SLACK_S, longest)
