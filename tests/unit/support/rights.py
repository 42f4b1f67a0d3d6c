"""Commands with fewer rights than root's, for programs of this interpreter and this checkout."""

from __future__ import annotations

import sys
from collections.abc import Sequence, Set
from pathlib import Path

from harness.adapters.reference import TAPPER_ENVIRON
from harness.sandbox.process import Command

_WRAPPER = str(Path(__file__).resolve().parents[1] / "sandbox" / "ordinary_user.py")


def as_root_with(capabilities: Set[str], argv: Sequence[str]) -> Command:
    """Root with these capabilities only, on file systems that are read-only. `Command` alone would do for this if
    interpreter and checkout were where root may go without the right to ignore file modes."""
    wrapped = [sys.executable, _WRAPPER, "--root-with", ",".join(sorted(capabilities)), *argv]
    return Command(wrapped, env=TAPPER_ENVIRON, read_only=True)


def as_nobody(argv: Sequence[str]) -> Command:
    """Uid and gid 65534, without capabilities, on file systems that are read-only."""
    return Command([sys.executable, _WRAPPER, *argv], env=TAPPER_ENVIRON, read_only=True)
