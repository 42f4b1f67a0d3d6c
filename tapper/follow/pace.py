"""How long the tapper waits from one scan to the next."""

from __future__ import annotations

SHORTEST_INTERVAL_S = 0.5
LONGEST_INTERVAL_S = 0.8
"""However long a scan takes: a new pod is to be seen within a second."""
NOTIFIED_INTERVAL_S = 2.0
LONGEST_NOTIFIED_INTERVAL_S = 4.0
"""The same where the kernel notifies of every execve(2), and everything found is captured."""
SCAN_SHARE = 20
"""A scan may take a twentieth of the time."""
_EXECVE_S = 0.02
"""How soon a new proxy is read again whose environment is empty, since its execve(2) may not be complete."""
_SLACK_S = 0.2
"""A scan waits for so long for another reason to wake up: waking up costs more than scanning."""


def interval(cost_s: float, *, notified: bool, execve_under_way: bool) -> tuple[float, float]:
    """Seconds after a scan that took `cost_s` seconds: from when on to scan again if the tapper is awake, and when to
    wake up for it."""
    cost_s *= SCAN_SHARE
    if execve_under_way:
        soon = min(max(_EXECVE_S, cost_s), LONGEST_INTERVAL_S)
        return soon, soon
    if notified:
        return min(max(NOTIFIED_INTERVAL_S, cost_s), LONGEST_NOTIFIED_INTERVAL_S), LONGEST_NOTIFIED_INTERVAL_S
    early = min(max(SHORTEST_INTERVAL_S, cost_s), LONGEST_INTERVAL_S)
    return early, min(early + _SLACK_S, LONGEST_INTERVAL_S)
