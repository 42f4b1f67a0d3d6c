"""The limits of a tapper under test, in bytes: beyond them the kit ends it."""

from __future__ import annotations

MOST_OUTPUT = 256 << 20
"""Limit of its standard output, and of its standard error."""
MOST_MEMORY = 1 << 30
"""Limit of the resident memory of it and its children together."""
MOST_FILES = 512 << 20


def exceeded(*, memory: int, log: int, files: int, run_files: int) -> str:
    """The exceeded limit, in words that continue `its end`; empty if there is none.

    `log` is the size of its standard error, `files` that of its output and its state, `run_files` that of all files in
    the node's /run, where it may write as well.
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
