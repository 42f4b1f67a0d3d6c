"""The bounds of a plan, and the error of a plan that exceeds one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.errors import HarnessError

MOST_FIELD = 16 << 10
MOST_FIELDS = 64

_NOT_IN_A_FIELD = re.compile(r"[\0\r\n]|[^\x00-\xff]")

FieldPairs = tuple[tuple[str, str], ...]


class PlanError(HarnessError):
    """A file is no plan, or a plan asks for more than may be played: the sentence says where and why."""


def within(name: str, number: int, low: int, high: int) -> None:
    if not (isinstance(number, int) and low <= number <= high):
        raise PlanError(f"{name} has to be from {low} to {high}, and is {number!r}")


def one_of(name: str, value: str, there_are: Sequence[str]) -> None:
    if value not in there_are:
        raise PlanError(f"{name} has to be one of {', '.join(map(repr, there_are))}, and is {value!r}")


def check_fields(pairs: FieldPairs) -> None:
    within("the number of fields", len(pairs), 0, MOST_FIELDS)
    for name, value in pairs:
        within("the length of a field", len(name) + len(value), 1, MOST_FIELD)
        if not (name.isascii() and name.replace("-", "").replace("_", "").isalnum()):
            raise PlanError(f"a field's name has to be letters, digits, - and _, and is {name!r}")
        if value != value.strip(" \t") or _NOT_IN_A_FIELD.search(value):
            raise PlanError(f"a field's value has to be bytes without line ends or outer spaces, and is {value!r}")
