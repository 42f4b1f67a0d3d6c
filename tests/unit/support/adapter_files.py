"""Adapter files that tests write: a mutant, or any program, as a stranger's tapper."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]


def adapter_file(
    directory: Path, argv: Sequence[str], *, claims: Sequence[str] = ("http1",), env: Mapping[str, str] | None = None
) -> Path:
    """Write one that claims little, and says nothing about being ready."""
    path = directory / "adapter.toml"
    path.write_text(
        f"""contract = 1
[implementation]
name = "A Stranger"
organization = "nobody"
url = "https://example.org/"
version = "1"
contact = "nobody"
[run]
argv = {json.dumps(list(argv))}
env = {{ {", ".join(f"{name} = {json.dumps(value)}" for name, value in (env or {}).items())} }}
[output]
format = "ndjson"
[features]
claims = {json.dumps(list(claims))}
"""
    )
    return path


def mutant_file(directory: Path, name: str, claims: Sequence[str] = ("http1",)) -> Path:
    """One of the kit's mutants."""
    argv = [sys.executable, "-m", "harness.conformance.mutants", name]
    return adapter_file(directory, argv, claims=claims, env={"PYTHONPATH": str(REPOSITORY)})
