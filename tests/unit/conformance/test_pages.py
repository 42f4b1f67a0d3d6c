"""docs/conformance/ is what the cases say of themselves."""

from __future__ import annotations

from pathlib import Path

from adapter_files import REPOSITORY
from kit_command import command

from harness.conformance.catalogue import cases
from harness.conformance.model import Outcome
from harness.conformance.pages import pages

FOLDER = REPOSITORY / "docs" / "conformance"


def test_the_pages_are_current() -> None:
    made = pages(cases().values())
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == made, "run script/pages"


def test_the_command_writes_them(tmp_path: Path) -> None:
    assert command(tmp_path, "cases", "--markdown", "out").returncode == 0
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == pages(cases().values())


def test_every_case_is_on_its_page_and_in_the_index() -> None:
    made = pages(cases().values())
    for case in cases().values():
        assert f"[{case.id}]({case.group}.md#{case.id.lower()})" in made["README.md"]
        page = made[f"{case.group}.md"]
        assert f"\n## {case.id}\n\n{case.requirement}\n\n{case.explanation}\n" in page


def test_the_guide_explains_every_outcome() -> None:
    guide = (REPOSITORY / "docs" / "conformance.md").read_text()
    assert [outcome for outcome in Outcome if f"\n| `{outcome}` |" not in guide] == []
