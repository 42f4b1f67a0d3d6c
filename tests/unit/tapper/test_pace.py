"""The time from one scan to the next."""

from __future__ import annotations

import pytest

from tapper.follow.pace import interval


@pytest.mark.parametrize(
    ("cost_s", "notified", "execve_under_way", "expected"),
    [
        (0.001, False, False, (0.5, 0.7)),
        (0.03, False, False, (0.6, 0.8)),
        (1.0, False, False, (0.8, 0.8)),
        (0.001, True, False, (2.0, 4.0)),
        (0.15, True, False, (3.0, 4.0)),
        (1.0, True, False, (4.0, 4.0)),
        (0.0001, True, True, (0.02, 0.02)),
        (0.01, False, True, (0.2, 0.2)),
        (1.0, False, True, (0.8, 0.8)),
    ],
)
def test_interval(cost_s: float, notified: bool, execve_under_way: bool, expected: tuple[float, float]) -> None:
    found = interval(cost_s, notified=notified, execve_under_way=execve_under_way)
    assert found == pytest.approx(expected)
