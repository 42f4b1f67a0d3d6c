"""Every file that a tapper writes, wherever it writes it.

Its mounts are overlays (`harness.sandbox.overlay`), whose upper layers hold its writes to the machine's file systems.
The node's own /run stays as it is, since others need its files; its earlier content is known. Files that the tapper has
open and deleted are read while it runs.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from harness.adapters import files
from harness.adapters.family import Family
from harness.errors import Unsupported
from harness.sandbox.init import RUN_DIR
from harness.sandbox.node import Node
from harness.sandbox.process import Command, Overlay

MOST_FILES = 10_000
"""At most this many files are read. The kit ends a tapper that writes too much (`harness.adapters.limits`)."""
_REFUSALS = (errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENODEV, errno.EOPNOTSUPP)
_RUN = "/run"
_KITS = Path(RUN_DIR).name
_STORE = "written-"

Identity = tuple[int, int, int]
"""Inode, size, and time of the last change in nanoseconds."""


class Written:
    """Make it before the tapper is started, with `overlay` for the tapper's command. `keep` is a directory for writes
    that the kit reads, by its path on the machine.

    Raises `Unsupported` if the kernel refuses overlays.
    """

    _made = 0

    def __init__(self, node: Node, keep: Path) -> None:
        self._node = node
        self._open: dict[str, bytes] = {}
        try:
            node.run(Command(["true"], overlay=self._new(keep)))
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
            raise Unsupported(
                f"what the tapper writes cannot be watched: the kernel refuses overlay mounts ({error}); "
                "run as root, or on Linux 5.11 or later"
            ) from None
        self.overlay = self._new(keep)
        self._before = dict(self._in_run())

    def look(self, family: Family) -> None:
        """Read the files that it holds open without a name: deleted files, and memfd_create(2)."""
        for process in family.members():
            for entry in _entries(Path(f"/proc/{process.pid}/fd")):
                try:
                    name = os.readlink(entry)
                    if name.endswith(" (deleted)") and stat.S_ISREG(entry.stat().st_mode):
                        self._open[name] = files.read(entry)
                except (OSError, files.UnreadableFile):
                    continue  # it was closed meanwhile

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Each file by the tapper's name for it, and its content (256 MiB at most)."""
        yield from self._open.items()
        for number, (name, path) in enumerate(self._paths()):
            if number == MOST_FILES:
                return
            try:
                yield name, files.read(path)
            except files.UnreadableFile:
                continue  # a pipe, a socket or a device holds nothing

    def names(self) -> Iterator[str]:
        """The name of each file, directory and symbolic link that is new, and where a link points to."""
        store = self._node.root / self.overlay.store.lstrip("/")
        for layer in _entries(store):
            for path in itertools.islice((layer / "upper").rglob("*"), MOST_FILES):
                yield path.name
                if path.is_symlink():
                    yield os.readlink(path)
        for (name, path), _ in self._in_run():
            if (name, path) not in self._before:
                yield name

    # -- inner -----------------------------------------------------------------------------------------------------

    def _new(self, keep: Path) -> Overlay:
        """Make an empty store, and note the files that exist already."""
        Written._made += 1
        store = self._node.run_dir / f"{_STORE}{Written._made}"
        store.mkdir()
        return Overlay(self._node.inside(store), (_RUN, str(keep.resolve())))

    def _paths(self) -> Iterator[tuple[str, Path]]:
        store = self._node.root / self.overlay.store.lstrip("/")
        for layer in _entries(store):
            upper = layer / "upper"
            for path in _below(upper):
                point = (layer / "point").read_text(errors="surrogateescape")
                yield str(Path(point) / path.relative_to(upper)), path
        for (name, path), identity in self._in_run():
            if self._before.get((name, path)) != identity:
                yield name, path

    def _in_run(self) -> Iterator[tuple[tuple[str, Path], Identity]]:
        """The files in the node's /run, without the logs and stores of the kit."""
        root = self._node.root / _RUN.lstrip("/")
        for path in _below(root):
            own = path.relative_to(root).parts
            if own[0] == _KITS and (own[1].startswith(_STORE) or own[-1].endswith(".log")):
                continue
            try:
                found = path.lstat()
            except OSError:
                continue
            yield (f"{_RUN}/{path.relative_to(root)}", path), (found.st_ino, found.st_size, found.st_mtime_ns)


def _below(directory: Path) -> Iterator[Path]:
    """Regular files in and below a directory. Links are not followed."""
    for parent, _, names in os.walk(directory):
        for name in names:
            path = Path(parent, name)
            try:
                if stat.S_ISREG(path.lstat().st_mode):
                    yield path
            except OSError:
                continue  # it is gone meanwhile


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []
