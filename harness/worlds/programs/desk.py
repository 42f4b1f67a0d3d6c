"""The kit's place beside a tapper under test in a cluster: it shares a folder with it, and nothing else.

    python -m harness.worlds.programs.desk lay TEXT         make the folder's parts, and write TEXT as the targets file
    python -m harness.worlds.programs.desk write TEXT       replace the targets file, by rename
    python -m harness.worlds.programs.desk hold SECONDS     print what the tapper's output files grow by

`hold` goes on for SECONDS after it was asked to end (SIGTERM), because the tapper beside it is asked at the same
moment, and has something to write still. It prints lines of JSON: {"file": name, "data": base64}.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
import time
from pathlib import Path

FOLDER = Path("/tapper-harness")
TARGETS = FOLDER / "told" / "targets.json"
OUTPUT = FOLDER / "output"
STATE = FOLDER / "state"
FILE = "out"
"""The name of the output, where it is one file."""
_PAUSE_S = 0.1
_CHUNK = 1 << 18


def lay(text: str) -> None:
    """Make the folders, writable for every user: the tapper's user is not known."""
    for folder in (OUTPUT, STATE):
        folder.mkdir(parents=True)
        folder.chmod(0o1777)
    TARGETS.parent.mkdir()
    write(text)


def write(text: str) -> None:
    fresh = TARGETS.with_suffix(".new")
    fresh.write_text(text)
    fresh.chmod(0o644)
    fresh.rename(TARGETS)


def hold(seconds: float) -> None:
    asked: list[float] = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(time.monotonic()))
    read: dict[str, int] = {}
    while not asked or time.monotonic() < asked[0] + seconds:
        if not _print_growth(read):
            time.sleep(_PAUSE_S)
    while _print_growth(read):
        pass


def _print_growth(read: dict[str, int]) -> bool:
    """Print what the files have grown by; whether they have grown."""
    grown = False
    for folder, _, names in os.walk(OUTPUT):
        for name in sorted(names):
            path = Path(folder, name)
            key = str(path.relative_to(OUTPUT))
            try:
                with path.open("rb") as file:
                    file.seek(read.get(key, 0))
                    data = file.read(_CHUNK)
            except OSError:
                continue  # gone, or not readable; the next look tells
            if data:
                read[key] = read.get(key, 0) + len(data)
                sys.stdout.write(json.dumps({"file": key, "data": base64.b64encode(data).decode()}) + "\n")
                sys.stdout.flush()
                grown = True
    return grown


def main() -> int:
    what, word = sys.argv[1:]
    if what == "hold":
        hold(float(word))
    else:
        {"lay": lay, "write": write}[what](word)
    return 0


if __name__ == "__main__":
    sys.exit(main())
