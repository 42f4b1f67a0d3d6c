"""Standard input, output and error, made fit to be used whatever the one who started the program has done to them."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO


def prepare() -> None:
    """Open those that are closed, and let texts be written whose characters the encoding does not have.

    A file or socket that is opened later would otherwise get a closed one's number, and what is meant for people would
    go there. A closed standard output is opened for reading only: writing to it fails (EBADF), which is told like any
    other output that cannot be written. What is written to a closed standard error is dropped.
    """
    for number, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest number that is free
    # Python has None for one that was closed when it started (sys.__stdout__)
    if sys.stdin is None:  # type: ignore[unreachable, unused-ignore]
        sys.stdin = open(0, closefd=False, encoding="utf-8")  # noqa: SIM115 - a descriptor
    if sys.stdout is None:  # type: ignore[unreachable, unused-ignore]
        sys.stdout = open(1, "w", closefd=False, encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:  # type: ignore[unreachable, unused-ignore]
        sys.stderr = open(2, "w", closefd=False, encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def drop(stream: TextIO) -> None:
    """Send a standard stream, and the contents of its buffer, to /dev/null: nobody reads the stream, or it cannot be
    written. Otherwise Python would report the failure once more at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
