"""Positions in a sequence in words: `the 51st to 200th of 200`. Pure."""

from __future__ import annotations

from collections.abc import Iterable

_MOST_RUNS = 4
_ENDS = {1: "st", 2: "nd", 3: "rd"}


def in_words(indexes: Iterable[int], total: int) -> str:
    """Some of `total` things, by their indexes from 0. `all of them`, `the 2nd, 4th and 7th of 9`; empty for none.

    Of more than a few runs the last are not named one by one: `the 1st, 3rd, 5th, 7th and 20 later ones of 50`.
    """
    numbers = sorted({index + 1 for index in indexes})
    if not numbers:
        return ""
    if len(numbers) == total:
        return "the only one" if total == 1 else "all of them"
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = [ordinal(run[0]) if len(run) == 1 else f"{ordinal(run[0])} to {ordinal(run[-1])}" for run in runs]
    if len(runs) > _MOST_RUNS:
        later = sum(map(len, runs[_MOST_RUNS:]))
        words = [*words[:_MOST_RUNS], f"{later} later one{'s' if later > 1 else ''}"]
    return f"the {_listed(words)} of {total}"


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 112th, 121st."""
    return f"{number}{'th' if number // 10 % 10 == 1 else _ENDS.get(number % 10, 'th')}"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
