"""docs/figures: as script/figures draws them, complete for those who do not see, and in light and dark."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
FIGURES = sorted((REPOSITORY / "docs" / "figures").glob("*.svg"))
SVG = "{http://www.w3.org/2000/svg}"


def test_they_are_as_the_script_draws_them(tmp_path: Path) -> None:
    subprocess.run([sys.executable, REPOSITORY / "script" / "figures", tmp_path], check=True)
    drawn = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert drawn == {path.name: path.read_text() for path in FIGURES}


@pytest.mark.parametrize("figure", FIGURES, ids=lambda path: path.stem)
def test_a_figure_is_described_and_has_colours_for_both_schemes(figure: Path) -> None:
    root = ET.fromstring(figure.read_text())
    assert root.findtext(f"{SVG}title")
    assert root.findtext(f"{SVG}desc")
    assert "prefers-color-scheme: dark" in (root.findtext(f"{SVG}style") or "")


@pytest.mark.parametrize("figure", FIGURES, ids=lambda path: path.stem)
def test_a_figure_is_in_a_document(figure: Path) -> None:
    documents = [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]
    assert any(f"figures/{figure.name})" in document.read_text() for document in documents)
