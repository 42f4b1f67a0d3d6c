"""What is said to the compiler of the hot path (hatch_build.py) about classes. To plain Python it says nothing, and
needs nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["mypyc_attr"]

C = TypeVar("C")

try:
    from mypy_extensions import mypyc_attr
except ImportError:

    def mypyc_attr(*_attrs: str, **_kwattrs: object) -> Callable[[C], C]:
        """`acyclic`: no object of this class is ever part of a cycle, so the collector need not know of it."""
        return lambda it: it
