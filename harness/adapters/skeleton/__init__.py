"""What `tapper-harness adapter new` writes: adapter.toml and run.py, which work as they are where tcpdump is there."""

from __future__ import annotations

from pathlib import Path

from harness.adapters.contract import AdapterError

_FILES = {"adapter.toml": 0o644, "run.py": 0o755}


def write(folder: Path, name: str) -> list[Path]:
    """Write the files into a folder, which is made.

    Raises `AdapterError` if one is there already; then nothing is written.
    """
    there = [folder / file for file in _FILES if (folder / file).exists()]
    if there:
        raise AdapterError(f"{there[0]} is there already, and is not overwritten: give another name")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, mode in _FILES.items():
            text = (Path(__file__).parent / f"{file}.txt").read_text().replace("@NAME@", name)
            (folder / file).write_text(text)
            (folder / file).chmod(mode)
    except OSError as error:
        raise AdapterError(f"{folder}: {error.strerror}") from None
    return [folder / file for file in _FILES]
