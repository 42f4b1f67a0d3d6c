"""Adapter files and the scripts beside them."""

from __future__ import annotations

from pathlib import Path


def names() -> dict[str, Path]:
    """The adapters that ship: name -> file."""
    return {file.stem: file for file in sorted(Path(__file__).parent.glob("*.toml"))}
