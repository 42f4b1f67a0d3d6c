"""Which of many, in words."""

from __future__ import annotations

import pytest

from harness.conformance import positions


@pytest.mark.parametrize(
    ("indexes", "total", "words"),
    [
        ([], 5, ""),
        ([0], 1, "the only one"),
        ([2, 0, 1], 3, "all of them"),
        ([1], 3, "the 2nd of 3"),
        (range(50, 200), 200, "the 51st to 200th of 200"),
        ([0, 2, 4], 9, "the 1st, 3rd and 5th of 9"),
        ([0, 1, 5], 9, "the 1st to 2nd and 6th of 9"),
        (range(0, 18, 2), 20, "the 1st, 3rd, 5th, 7th and 5 later ones of 20"),
        (range(0, 10, 2), 20, "the 1st, 3rd, 5th, 7th and 1 later one of 20"),
    ],
)
def test_words(indexes: list[int], total: int, words: str) -> None:
    assert positions.in_words(indexes, total) == words


def test_ordinals() -> None:
    numbers = [1, 2, 3, 4, 10, 11, 12, 13, 21, 22, 101, 111, 112, 123]
    told = "1st 2nd 3rd 4th 10th 11th 12th 13th 21st 22nd 101st 111th 112th 123rd"
    assert " ".join(map(positions.ordinal, numbers)) == told
