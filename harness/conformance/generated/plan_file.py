"""Plans as JSON, in which fields with their default values are left out; and the plans that ship.

`check` plays the plans that ship: they were drawn once, and are the same for everybody. `script/plans` draws them
again, and names the plans that come out otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from harness.conformance.generated.checks import PlanError
from harness.conformance.generated.plan import (
    Close,
    Content,
    Happening,
    Plan,
    PlannedExchange,
    PlannedMessage,
    Segmentation,
    Talk,
)

_OF = {
    "request": Content,
    "response": Content,
    "exchanges": PlannedExchange,
    "messages": PlannedMessage,
    "segments": Segmentation,
    "close": Close,
    "talks": Talk,
    "happenings": Happening,
}
"""The kind of the records in a field: one record, or a list of them."""
FOLDER = Path(__file__).with_name("plans")
"""The folder of the plans that ship: THEME-NUMBER.json."""
_PAIRS = ("trailers", "request_fields", "response_fields")


def _plain(record: Any) -> Any:
    if isinstance(record, tuple):
        return [_plain(part) for part in record]
    if not hasattr(record, "__dataclass_fields__"):
        return record
    values = {field: getattr(record, field.name) for field in fields(record)}
    return {field.name: _plain(value) for field, value in values.items() if value != field.default}


def _made(kind: type, document: object, where: str) -> Any:
    """A record of `kind` from its JSON document. Raises `PlanError`, which says where the document is wrong."""
    if not isinstance(document, Mapping):
        raise PlanError(f"{where} is no object")
    known = {field.name: field for field in fields(kind)}
    if unknown := sorted(set(document) - set(known)):
        raise PlanError(f"{where} has {unknown[0]}, which no {kind.__name__} has")
    arguments = {}
    for name, value in document.items():
        default = known[name].default
        assert default is not MISSING, "every field has a default, by which its type is known"
        arguments[name] = _value(name, value, default, f"{where}, {name}")
    try:
        return kind(**arguments)
    except PlanError as error:
        raise PlanError(f"{where}: {error}") from None


def _value(name: str, value: object, default: object, where: str) -> Any:
    if isinstance(default, tuple):
        if not isinstance(value, list):
            raise PlanError(f"{where} is no list")
        if name in _PAIRS:
            if not all(isinstance(pair, list) and list(map(type, pair)) == [str, str] for pair in value):
                raise PlanError(f"{where} is no list of pairs of texts")
            return tuple((name, text) for name, text in value)
        if name in _OF:
            return tuple(_made(_OF[name], part, f"{where} {number}") for number, part in enumerate(value))
        return tuple(value)
    if name in _OF:
        return _made(_OF[name], value, where)
    if type(value) is not type(default):
        raise PlanError(f"{where} has to be {type(default).__name__}, and is {value!r}")
    return value


def to_json(plan: Plan) -> str:
    return json.dumps(_plain(plan), separators=(",", ":")) + "\n"


def from_json(text: str | bytes) -> Plan:
    """Raises `PlanError`."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"it is no JSON: {error}") from None
    plan = _made(Plan, document, "the plan")
    assert isinstance(plan, Plan)
    return plan


def files() -> list[Path]:
    """The files of all plans that ship, by name."""
    return sorted(FOLDER.glob("*.json"))


def shipped(theme: str) -> list[Plan]:
    """The plans of a theme that ship, in their order."""
    return [load(file) for file in files() if file.stem.rpartition("-")[0] == theme]


def load(file: Path) -> Plan:
    """The plan in a file. Raises `PlanError`, which names the file."""
    try:
        return from_json(file.read_bytes())
    except OSError as error:
        raise PlanError(f"{file} cannot be read: {error.strerror}") from None
    except PlanError as error:
        raise PlanError(f"{file} is no plan: {error}") from None
