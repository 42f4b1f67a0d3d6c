"""Mutants use public names of the tapper alone, and those around the reference none at all."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.conformance import mutants

FOLDER = Path(mutants.__file__).parent
MODULES = sorted(FOLDER.rglob("*.py"))
OWN = {"self", "cls"}
ALLOWED = {("os", "_exit")}
"""The public function of the standard library with such a name."""


def private_names(source: str) -> Iterator[str]:
    """Names with a leading underscore that are read or replaced on anything but the module's own objects."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr=name) if owner in OWN or (owner, name) in ALLOWED:
                continue
            case ast.Attribute(attr=name) if _is_private(name):
                yield name
            case ast.ImportFrom(names=names):
                yield from (each.name for each in names if _is_private(each.name))
            case ast.Call(
                func=ast.Name(id="getattr" | "setattr" | "delattr"), args=[_, ast.Constant(value=str(name)), *_]
            ):
                if _is_private(name):
                    yield name


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(FOLDER)))
def test_no_private_name_of_another_module(module: Path) -> None:
    assert list(private_names(module.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "Follower._judge = None",
        "x = tap._follower._targets",
        "from tapper.follow.follower import _Followed",
        "setattr(Reader, '_keep', None)",
        "getattr(Reader, '_keep')",
    ],
)
def test_a_private_name_is_noticed(source: str) -> None:
    assert list(private_names(source)) != []


@pytest.mark.parametrize("source", ["self._root = 1", "os._exit(1)", "Tap.run = None", "Limits.__init__ = None"])
def test_other_names_are_not(source: str) -> None:
    assert list(private_names(source)) == []


def test_only_the_modules_inside_import_the_tapper() -> None:
    importing = {
        module.relative_to(FOLDER).parts[0]
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "tapper"
    }
    assert importing == {"inside", "__main__.py"}
