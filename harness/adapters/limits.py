"""How much a tapper under test may take of the machine before the kit ends it, in bytes."""

from __future__ import annotations

MOST_OUTPUT = 256 << 20
"""Of its standard output, and of its standard error."""
MOST_MEMORY = 1 << 30
"""Resident, of it and its children together."""
MOST_FILES = 512 << 20


def exceeded(*, memory: int, log: int, files: int, run_files: int) -> str:
    """Which limit is passed, in words that go on from `its end`; empty if none is.

    `log` is its standard error's size, `files` that of its output and its state, `run_files` that of all in the node's
    /run, where it may write as well.
    """
    if memory > MOST_MEMORY:
        return f"it took more than {MOST_MEMORY >> 20} MiB of memory"
    if log > MOST_OUTPUT:
        return f"it wrote more than {MOST_OUTPUT >> 20} MiB to its standard error"
    if files > MOST_FILES:
        return f"its files took more than {MOST_FILES >> 20} MiB"
    if run_files > MOST_FILES:
        return f"the files in /run took more than {MOST_FILES >> 20} MiB"
    return ""
