"""Which form of the hot path runs: the extension modules that a wheel may have (hatch_build.py makes them), or the
plain modules of the same source.

The extension modules are taken where they are and can be loaded, unless TAPPER_PURE is set to anything. Beside a
checkout's sources (script/compile) they are taken only as long as these sources have not changed.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType

_GROUP = "tapper__mypyc"
"""The extension module that holds the code of all others, beside this package."""
_ROOT = Path(__file__).parents[2]
"""The folder that the package `tapper` lies in."""


class _Plain:
    """A finder (importlib.abc.MetaPathFinder) that sees no extension modules of this package."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None or not name.startswith("tapper."):
            return None
        for folder in path:
            spec = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(name)
            if spec is not None:
                return spec
        return None


def choose() -> str:
    """`compiled` or `pure Python`, from here on; the latter perhaps with the reason in parentheses."""
    group = importlib.util.find_spec(_GROUP)
    if group is None or group.origin is None or Path(group.origin).parent != _ROOT:
        return "pure Python"
    why = "TAPPER_PURE is set" if os.environ.get("TAPPER_PURE") else _unfit()
    if why is None:
        return "compiled"
    sys.meta_path.insert(0, _Plain())
    return f"pure Python ({why})"


def _unfit() -> str | None:
    record = _ROOT / "tapper" / "compiled.sources"
    if record.exists():
        import hashlib  # noqa: PLC0415 - OpenSSL, and only beside a checkout that was compiled

        for line in record.read_text().splitlines():
            digest, _, path = line.partition("  ")
            if hashlib.sha256((_ROOT / path).read_bytes()).hexdigest() != digest:
                return f"{path} has changed since it was compiled"
    try:
        importlib.import_module(_GROUP)
    except ImportError as error:
        return f"its compiled form cannot be loaded: {error}"
    return None
