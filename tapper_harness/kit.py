"""Importing the package `harness` on first use: another project may have a package of that name.

This module imports nothing of it, so that any pytest can load the plugin.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "harness"
"""The folder of the package: it is installed beside this one."""


def namesake() -> str | None:
    """The place of another module named `harness` that an import would give instead; None if an import gives ours.

    Imports nothing, because the other project's code must not run for this question.
    """
    try:
        spec = importlib.util.find_spec("harness")
    except ValueError:  # sys.modules has a module of that name without a file
        return "a module that was made while the program ran"
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    if spec is None or any(Path(folder).resolve() == FOLDER for folder in folders):
        return None
    return spec.origin or folders[0]


def name_taken(where: str) -> str:
    """The sentence about another module of that name."""
    return (
        f"tapper-harness needs its own package harness ({FOLDER}), and Python finds another one of that name first: "
        f"{where}; rename that one, or run these tests where it cannot be imported"
    )


@contextmanager
def importing(config: pytest.Config) -> Iterator[None]:
    """A context for the imports of a fixture: a failure becomes one sentence instead of a traceback.

    Another module of that name fails the test; a missing package is handled by `refuse`.
    """
    where = namesake()
    if where is not None:
        pytest.fail(name_taken(where), pytrace=False)
    from harness.errors import lacks_package

    try:
        yield
    except ModuleNotFoundError as error:
        refuse(config, str(lacks_package(error)))


def refuse(config: pytest.Config, reason: str) -> NoReturn:
    """Skip the test that this machine cannot run, or fail it under --harness-require."""
    if config.getoption("--harness-require"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
