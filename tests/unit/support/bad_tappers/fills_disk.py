"""Writes into a folder without end: its state, or the node's /run."""

import sys
from pathlib import Path

from working import told

folder = Path(sys.argv[1] if len(sys.argv) > 1 else told("STATE_DIR"))
with (folder / "everything").open("wb") as file:
    while True:
        try:
            file.write(b"x" * (1 << 20))
        except OSError:
            pass
