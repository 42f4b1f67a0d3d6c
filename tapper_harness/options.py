"""The plugin's options. Their names begin with --harness-, because pytest has one set of names for all plugins."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import pytest

CASES = "pytest --pyargs harness.conformance"
OLD_NAMES = {"--adapter": "--harness-adapter", "--patience": "--harness-patience"}
"""Old name of an option -> its present name."""


def add(parser: pytest.Parser) -> None:
    """Add the options to pytest."""
    group = parser.getgroup("tapper-harness", "tapper-harness: sandboxed nodes for traffic tappers")
    group.addoption(
        "--harness-require",
        action="store_true",
        default=bool(os.environ.get("CI")),
        help="fail, instead of skipping, the tests whose sandbox this machine cannot run (the default where CI is set)",
    )
    group.addoption(
        "--harness-evidence",
        metavar="DIR",
        type=Path,
        help="for every failed test, write the logs of its node's processes and the recordings of its wires there; "
        "for every conformance case, its evidence",
    )
    group.addoption(
        "--harness-adapter",
        metavar="FILE|NAME",
        help=f"the adapter of a tapper to judge: collects the conformance cases ({CASES} --harness-adapter FILE)",
    )
    group.addoption(
        "--harness-patience",
        type=float,
        default=1.0,
        metavar="X",
        help="multiply the time limits of conformance cases by this",
    )


def uses_old_names(args: Collection[str]) -> bool:
    """True if the command line has an old name of an option, which may also be an option of another plugin."""
    return any(argument.partition("=")[0] in OLD_NAMES for argument in args)


def replace_old_names(args: list[str], unknown: Collection[str]) -> list[str]:
    """Replace the old names of our options by the new ones, in place. Returns a sentence to the user for each.

    `unknown`: the arguments that no option takes. An old name that is not among them is an option of another plugin.
    """
    told = []
    end = args.index("--") if "--" in args else len(args)
    for at, argument in enumerate(args[:end]):
        old, equals, value = argument.partition("=")
        if old in OLD_NAMES and argument in unknown:
            args[at] = OLD_NAMES[old] + equals + value
            told.append(f"the option {old} is now {OLD_NAMES[old]}: the old name will be removed")
    return told
