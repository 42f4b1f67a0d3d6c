"""Tables of the commands: as wide as the terminal, or wide enough for a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

_PIPED = 160
"""Characters of a line where the output is no terminal."""


def show(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table with these heads. The first column is never broken."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    (Console() if sys.stdout.isatty() else Console(width=_PIPED)).print(table)
