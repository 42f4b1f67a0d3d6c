"""The plans that `check` plays: files that ship, drawn once and since then the same for everybody.

`script/plans` draws them again, and says which come out otherwise.
"""

from __future__ import annotations

from pathlib import Path

from harness.conformance.generated.checks import PlanError
from harness.conformance.generated.plan import Plan
from harness.conformance.generated.plan_file import from_json

FOLDER = Path(__file__).with_name("plans")


def files() -> list[Path]:
    """All of them, by name."""
    return sorted(FOLDER.glob("*.json"))


def shipped(theme: str) -> list[Plan]:
    """The plans of a theme, in their order: THEME-1.json and so on."""
    return [load(file) for file in files() if file.stem.rpartition("-")[0] == theme]


def load(file: Path) -> Plan:
    """Raises `PlanError` that names the file."""
    try:
        return from_json(file.read_bytes())
    except OSError as error:
        raise PlanError(f"{file} cannot be read: {error.strerror}") from None
    except PlanError as error:
        raise PlanError(f"{file} is no plan: {error}") from None
