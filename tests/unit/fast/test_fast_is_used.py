"""The fast parts are in use where the package is there, and each is a subclass of the plain part."""

from __future__ import annotations

from dataclasses import fields

import pytest

from tapper.protocols.reader_classes import Readers
from tapper.run.parts import PLAIN, Parts, chosen


def test_fast_parts_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAPPER_PLAIN", raising=False)
    assert chosen() is not PLAIN
    assert chosen() != PLAIN


@pytest.mark.parametrize("name", [field.name for field in fields(Parts) if field.name != "readers"])
def test_each_part_is_a_subclass_of_the_plain_one(name: str) -> None:
    assert issubclass(getattr(chosen(), name), getattr(PLAIN, name))


@pytest.mark.parametrize("name", [field.name for field in fields(Readers)])
def test_each_reader_is_a_subclass_of_the_plain_one(name: str) -> None:
    assert issubclass(getattr(chosen().readers, name), getattr(PLAIN.readers, name))
