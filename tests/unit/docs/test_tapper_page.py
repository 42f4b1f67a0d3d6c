"""docs/tapper.md: a row for every option of the help, every output format and every exit code of the tapper."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from harness.adapters.reference import tapper_argv
from tapper import errors
from tapper.output import redaction

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "tapper.md").read_text()

FILTERS = ("--method", "--path", "--status", "--host")


def help_of(command: str) -> str:
    return subprocess.run(tapper_argv(command, "--help"), capture_output=True, text=True, check=True).stdout


OPTION = re.compile(
    r"^  (?:-\w.*?, )?(--[a-z-]+)(?:, --[a-z-]+)?(?: (\S+?))?(?:, --\S+ \S+)?(?=\s)(.*(?:\n {8}.*)*)", re.MULTILINE
)
"""Python 3.13 names the value once, after all spellings of an option; older ones name it after each."""


def options_of(command: str) -> dict[str, tuple[str, str]]:
    """The options that the help has, each with its value's name and its text."""
    found = {name: (value, " ".join(text.split())) for name, value, text in OPTION.findall(help_of(command))}
    del found["--help"]
    return found


def rows() -> dict[str, str]:
    """The rows of the page's tables of options, by option."""
    lines = [line.replace("\\|", "\x00") for line in PAGE.splitlines() if line.startswith("| `-")]
    return {re.findall(r"--[a-z-]+", line)[0]: line for line in lines}


def test_the_tables_have_the_options_and_no_others() -> None:
    assert set(rows()) == set(options_of("tap")) | set(options_of("discover"))
    assert len(rows()) > 25


@pytest.mark.parametrize("command", ["tap", "discover"])
def test_a_row_says_what_the_help_says(command: str) -> None:
    """The name of the value, its choices, the default, and whether the option may be repeated."""
    told = rows()
    for option, (value, text) in options_of(command).items():
        row = told[option]
        if command == "tap" or option == "--all":  # discover has fewer formats
            assert f"`{option} {shown(value)}`".replace(" `", "`") in row
        default = re.search(r"default: ([\w/]+)\)", text)
        assert default is None or re.search(rf"default: `?{default[1]}", row), option
        assert ("repeatable" in row or "filter: " in row) is ("may be repeated" in text or option in FILTERS), option


def shown(value: str) -> str:
    """Choices and alternatives, with a character in place of the bar, which has a meaning in tables."""
    return value.strip("{}").replace(",", "\x00") if value.startswith("{") else value.replace("|", "\x00")


def test_every_output_format_is_there() -> None:
    listed = re.search(r"-o \{([\w,]+)\}", help_of("tap"))
    assert listed is not None
    table = PAGE.partition("### Output formats")[2].partition("**text.**")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(listed[1].split(","))


def test_every_exit_code_is_there() -> None:
    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    table = PAGE.partition("## Exit codes")[2].partition("\n## ")[0]
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert told == codes | {0, 130}


def test_every_name_that_is_hidden_is_on_the_page() -> None:
    section = PAGE.partition("### What is hidden")[2].partition("\n## ")[0]
    endings, _, names = section.partition("\n- ")[2].partition("\n- ")
    told = [re.findall(r"`([^`]+)`", part) for part in (endings, names.partition("\n- ")[0])]
    assert told == [list(redaction.ENDINGS), list(redaction.NAMES)]
    assert {name.lower() for name in re.findall(r"`([^`]+)`", section)} >= {*redaction.URL_ENDINGS, redaction.PROTOCOLS}
