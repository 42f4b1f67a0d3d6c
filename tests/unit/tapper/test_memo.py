"""A memo computes an answer once, and its size has a limit."""

from __future__ import annotations

from tapper.runtime.memo import LONGEST, Memo


class Upper:
    """A function that keeps a list of its arguments."""

    def __init__(self) -> None:
        self.arguments: list[str] = []

    def __call__(self, key: str) -> str:
        self.arguments.append(key)
        return key.upper()


def test_a_known_answer_is_not_computed_again() -> None:
    upper = Upper()
    memo = Memo(upper, len)
    assert [memo[key] for key in "aab"] == ["A", "A", "B"]
    assert upper.arguments == ["a", "b"]


def test_it_keeps_a_few_short_keys() -> None:
    upper, long = Upper(), "x" * (LONGEST + 1)
    memo = Memo(upper, len, most=3)
    for key in ["a", "b", long, "c", "d", "a"]:
        assert memo[key] == key.upper()
        assert len(memo) <= 3
    assert long not in memo
    assert upper.arguments == ["a", "b", long, "c", "d", "a"], "the fourth key made it forget the first ones"
