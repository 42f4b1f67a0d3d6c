from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapper.streams.sequence import MASK, after, difference, unwrap

numbers = st.integers(0, MASK)


@pytest.mark.parametrize(
    ("a", "b", "expected"), [(5, 3, 2), (3, 5, -2), (2, MASK, 3), (MASK, 2, -3), (0, 0, 0), (1 << 31, 0, -(1 << 31))]
)
def test_difference_goes_the_shorter_way(a: int, b: int, expected: int) -> None:
    assert difference(a, b) == expected


@given(numbers, st.integers(1, (1 << 31) - 1))
def test_after_holds_across_the_wrap(number: int, ahead: int) -> None:
    assert after((number + ahead) & MASK, number)
    assert not after(number, (number + ahead) & MASK)
    assert not after(number, number)


@given(st.integers(1 << 32, 1 << 40), st.integers(-(1 << 31), (1 << 31) - 1))
def test_unwrap_finds_the_nearest_position(near: int, distance: int) -> None:
    assert unwrap((near + distance) & MASK, near) == near + distance
