"""docs/tapper.md names every option, every output format and every exit code of the reference tapper."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from harness.adapters.reference import tapper_argv
from tapper import errors

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "tapper.md").read_text()


def help_of(command: str) -> str:
    return subprocess.run(tapper_argv(command, "--help"), capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("command", ["tap", "discover"])
def test_every_option_is_there(command: str) -> None:
    options = set(re.findall(r"^  (?:-\w.*, )?(--[a-z-]+)", help_of(command), re.MULTILINE)) - {"--help"}
    assert len(options) > 4
    assert {option for option in options if not re.search(rf"`[^`]*{option}(?![\w-])", PAGE)} == set()


def test_every_output_format_is_there() -> None:
    listed = re.search(r"-o \{([\w,]+)\}", help_of("tap"))
    assert listed is not None
    assert set(
        re.findall(r"^\| `(\w+)`.* \| .* \| .* \|", PAGE.partition("## Output formats")[2], re.MULTILINE)
    ) >= set(listed[1].split(","))


def test_every_exit_code_is_there() -> None:
    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    table = PAGE.partition("## Exit codes")[2].partition("\n## ")[0]
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert told == codes | {0, 130}
