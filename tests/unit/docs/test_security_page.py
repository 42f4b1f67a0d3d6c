"""docs/security.md: every row of its tables names a test, and the test exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[3] / "docs"
ROWS = [
    line for line in (DOCS / "security.md").read_text().splitlines() if line.startswith("| ") and "| test |" not in line
]
NAMED = re.compile(r"\[`(test_\w+)`\]\(([\w./]+\.py)\) \|$")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:60])
def test_the_test_of_a_row_exists(row: str) -> None:
    named = NAMED.search(row)
    assert named is not None, "no test at the end of the row"
    assert re.search(rf"^def {named[1]}\(", (DOCS / named[2]).resolve().read_text(), re.MULTILINE)


def test_the_tables_are_read() -> None:
    assert len(ROWS) > 25
