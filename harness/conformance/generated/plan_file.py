"""A plan as JSON: without what is as it is by default, and read again with each wrong key told. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
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
"""The records that are in a field, alone or in a row."""
_PAIRS = ("trailers", "request_fields", "response_fields")


def _plain(record: Any) -> Any:
    if isinstance(record, tuple):
        return [_plain(each) for each in record]
    if not hasattr(record, "__dataclass_fields__"):
        return record
    told = {each.name: getattr(record, each.name) for each in fields(record)}
    return {each.name: _plain(told[each.name]) for each in fields(record) if told[each.name] != each.default}


def _made(kind: type, document: object, where: str) -> Any:
    """A record of `kind` from what JSON has for it. Raises `PlanError` that says where it is wrong."""
    if not isinstance(document, Mapping):
        raise PlanError(f"{where} is no object")
    known = {each.name: each for each in fields(kind)}
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
            if not all(isinstance(each, list) and list(map(type, each)) == [str, str] for each in value):
                raise PlanError(f"{where} is no list of pairs of texts")
            return tuple((each[0], each[1]) for each in value)
        if name in _OF:
            return tuple(_made(_OF[name], each, f"{where} {number}") for number, each in enumerate(value))
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
