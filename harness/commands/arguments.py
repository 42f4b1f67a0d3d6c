"""Arguments that several commands have."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.adapters.contract import Adapter


def positive(text: str) -> int:
    """A whole number from 1 on."""
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return number


def seed(text: str) -> int:
    """A whole number from 0 on."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def minutes(text: str) -> float:
    """A time above 0."""
    try:
        return patience(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes: give one above 0, like 10") from None


def patience(text: str) -> float:
    """A factor greater than 0."""
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not (factor > 0 and math.isfinite(factor)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a factor: give a number above 0, like 2")
    return factor


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Add --jobs and --patience."""
    parser.add_argument(
        "--jobs", type=positive, metavar="N", help="cases at a time (default: three a processor, at most 8)"
    )
    parser.add_argument(
        "--patience", type=patience, default=1.0, metavar="X", help="multiply every time limit by this (default 1)"
    )


def adapter(name: str) -> Adapter:
    """An adapter by its file, or by its name if it ships with the kit. Raises `AdapterError`."""
    from harness.adapters import contract, shipped

    there_are = shipped.names()
    if name in there_are:
        return contract.load(there_are[name])
    if not Path(name).exists():
        raise contract.AdapterError(
            f"there is no adapter {name}: give a file, or one of those that ship: {', '.join(there_are)}"
        )
    return contract.load(Path(name))
