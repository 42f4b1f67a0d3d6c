"""docs/tour.md: its examples give what they show, and its modules are as few and as short as it promises."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TOUR = ROOT / "docs" / "tour.md"
MOST_MODULES = 12
MOST_LINES = 2300


def visited() -> list[Path]:
    """The modules that the headings name, in their order."""
    headings = [line for line in TOUR.read_text().splitlines() if re.match(r"## \d", line)]
    return [
        ROOT / "tapper" / path for line in headings for path in re.findall(r"\(\.\./tapper/([a-z0-9_/]+\.py)\)", line)
    ]


def test_every_example_gives_the_output_that_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # the examples name the block by its path in the checkout
    text = re.sub(r"(?m)^```.*$", "", TOUR.read_text())
    test = doctest.DocTestParser().get_doctest(text, {}, TOUR.name, str(TOUR), 0)
    said: list[str] = []
    outcome = doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert outcome.attempted > 30, "the examples were not found"
    assert not outcome.failed, "".join(said)


def test_the_tour_is_as_short_as_it_says() -> None:
    modules = visited()
    assert len(modules) == len(set(modules))
    assert len(modules) <= MOST_MODULES
    lines = sum(len(module.read_text().splitlines()) for module in modules)
    assert lines <= MOST_LINES
    numbers = {"eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12}
    promise = re.search(r"(?s)^(\w+) modules, .*?about ([\d,]+) lines", TOUR.read_text(), re.MULTILINE)
    assert promise is not None
    assert numbers[promise[1].lower()] == len(modules)
    assert abs(int(promise[2].replace(",", "")) - lines) <= 100
