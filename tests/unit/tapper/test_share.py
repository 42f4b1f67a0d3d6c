"""Deficit round robin by time, without a clock."""

from __future__ import annotations

import pytest

from tapper.capture.share import QUANTUM_S, Share, next_round


def spend_all(costs: dict[str, float], rounds: int) -> tuple[dict[str, float], dict[str, Share]]:
    """The seconds that each source got if each portion of its packets takes so many seconds, and there are always
    packets."""
    shares = {name: Share() for name in costs}
    got = dict.fromkeys(costs, 0.0)
    for _ in range(rounds):
        next_round(list(shares.values()))
        for name, share in shares.items():
            while not share.spent:
                got[name] += costs[name]
                share.spend(costs[name])
    return got, shares


def test_all_get_the_same_time_whatever_a_portion_costs() -> None:
    got, shares = spend_all({"cheap": QUANTUM_S / 50, "usual": QUANTUM_S / 2, "costly": QUANTUM_S * 20}, 1000)
    assert got["cheap"] == pytest.approx(got["usual"], rel=0.05)
    assert got["cheap"] == pytest.approx(got["costly"], rel=0.05)
    assert shares["costly"].postponed > 900
    assert shares["usual"].postponed == 0


def test_a_source_alone_is_never_put_back() -> None:
    got, shares = spend_all({"costly": QUANTUM_S * 20}, 100)
    assert got["costly"] == pytest.approx(100 * QUANTUM_S * 20)
    assert shares["costly"].postponed == 0


def test_where_all_are_in_debt_the_one_with_the_least_goes_first() -> None:
    less, more = Share(), Share()
    less.spend(QUANTUM_S * 5)
    more.spend(QUANTUM_S * 9)
    next_round([less, more])
    assert (less.spent, more.spent) == (False, True)


def test_time_without_packets_is_not_saved() -> None:
    share = Share()
    for _ in range(50):
        next_round([share])
    assert share.credit_s == QUANTUM_S


def test_a_debt_is_bounded() -> None:
    stopped, other = Share(), Share()
    stopped.spend(3600)
    for _ in range(250):
        next_round([stopped, other])
    assert not stopped.spent
