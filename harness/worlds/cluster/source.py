"""This project's own files, in a checkout of the repository or in an installed package.

A wheel has a folder harness/checkout with the files that lie beside the packages in a checkout and that the image is
built from (hatch_build.py).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ABOVE_PACKAGES = Path(__file__).resolve().parents[3]
"""The folder with the packages: the checkout's, or site-packages."""
_SHIPPED = _ABOVE_PACKAGES / "harness" / "checkout"
_PACKAGES = ("tapper", "tapper_harness", "harness")

FIXTURES = (_SHIPPED if _SHIPPED.is_dir() else _ABOVE_PACKAGES) / "fixtures" / "istio"
"""The manifests, and the Containerfile."""


@contextmanager
def checkout() -> Iterator[Path]:
    """A folder from which image and wheel can be built. Of an installed package it is made, for the time of the block;
    that has no extension modules in it, as a checkout has none."""
    if not _SHIPPED.is_dir():
        yield _ABOVE_PACKAGES
        return
    with tempfile.TemporaryDirectory(prefix="tapper-harness-") as name:
        folder = Path(name)
        shutil.copytree(_SHIPPED, folder, dirs_exist_ok=True)
        unwanted = shutil.ignore_patterns("__pycache__", "*.so", _SHIPPED.name)
        for package in _PACKAGES:
            shutil.copytree(_ABOVE_PACKAGES / package, folder / package, ignore=unwanted)
        yield folder
