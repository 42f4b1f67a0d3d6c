"""The processes of pods, and what of their TLS can be read.

A process is looked into when it is found, when it begins a program, and when it maps a file that may be a TLS library.
A file is looked into once, whichever processes map it. Libraries in the usual folders of a process's root are looked
into before anybody maps them, so that the first words of a short-lived process are not missed.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from tapper.discovery.finders import Finder
from tapper.discovery.procfs import Procfs
from tapper.discovery.scanner import Scanner
from tapper.errors import explain
from tapper.namespaces.identity import NamespaceId
from tapper.output.records import TlsProcess
from tapper.uprobe.readable import (
    LARGEST_FILE,
    LARGEST_MAPS,
    FileVerdict,
    MappedFile,
    fuse_devices,
    judge,
    judge_program,
    mapped_files,
    may_have_tls,
)

FileId: TypeAlias = tuple[int, int, bool]
"""Device and inode (stat(2)), and whether the file as a whole was searched for a library within it."""
Attach: TypeAlias = Callable[[FileId, str, FileVerdict], None]
"""Attaches programs to a file that can be read, by its path. Raises OSError."""

_KEPT_S: Final = 30.0
"""For so long programs stay attached to a file that no process has: the next one may be as short-lived as the last."""
_FOLDERS: Final = ("lib", "lib64", "usr/lib", "usr/lib64", "usr/local/lib")
_MULTIARCH: Final = ("-linux-gnu", "-linux-musl")
_LIBRARIES: Final = ("libssl.so.", "libgnutls.so.")
_MOST_ENTRIES: Final = 20_000
"""Of a folder."""
_MOST_FILES: Final = 4096
"""Files that are known at a time. Further ones are not looked into."""
_MOST_AHEAD: Final = 16
"""Files of a root that are looked into before anybody maps them."""


@dataclass(slots=True)
class _Process:
    """A process of a pod."""

    exe: str | None
    files: set[FileId] = field(default_factory=set)
    told: set[str] = field(default_factory=set)
    """The libraries that were returned."""


class TlsProcesses:
    """Looks into processes. `attach` and `detach` are called for files that can be read, from when on and as long as a
    process of a pod may map them."""

    def __init__(
        self, procfs: Procfs, attach: Attach = lambda *_: None, detach: Callable[[FileId], None] = lambda _: None
    ) -> None:
        self._procfs = procfs
        self._attach = attach
        self._detach = detach
        self._scanner = Scanner(procfs, {Finder.NETNS})
        self._machine = os.uname().machine
        self._processes: dict[int, _Process] = {}
        self._files: dict[FileId, FileVerdict | None] = {}
        self._used: dict[FileId, float] = {}
        """When a process was last known that may map a file, by time.monotonic."""
        self._roots: dict[tuple[int, int], set[FileId]] = {}
        """The files that were looked into ahead, by the folder that is the root of a process."""

    def look(self, pods: Mapping[NamespaceId, str], again: Set[int] | None) -> list[TlsProcess]:
        """Look into the processes in these network namespaces, each with its pod's address: into new and young ones,
        and `again` into these; None: into all. Returns what was not returned before. Raises TapperError."""
        residents = self._scanner.scan(None).residents
        listed = [(pid, exe, netns) for netns in pods for pid, exe in residents.get(netns, ())]
        found: list[TlsProcess] = []
        # 1. The processes.
        for pid, exe, netns in listed:
            known = self._processes.get(pid)
            if again is None or pid in again or known is None or known.exe != exe:
                found += self._look_into(pid, exe, pods[netns])
        pids = {pid for pid, _, _ in listed}
        self._processes = {pid: process for pid, process in self._processes.items() if pid in pids}
        # 2. The files that none of them has any more.
        roots = {root for pid in pids if (root := self._root(pid)) is not None}
        self._roots = {root: files for root, files in self._roots.items() if root in roots}
        now = time.monotonic()
        for file in set[FileId]().union(*(it.files for it in self._processes.values()), *self._roots.values()):
            self._used[file] = now
        for file in [file for file, used in self._used.items() if now - used > _KEPT_S]:
            self._detach(file)
            del self._used[file]
            self._files.pop(file, None)
        return found

    def look_at_pod(self, netns: NamespaceId, address: str) -> list[TlsProcess]:
        """Look into every process in this network namespace. Raises TapperError."""
        found: list[TlsProcess] = []
        for pid, exe in self._scanner.scan(None).residents.get(netns, ()):
            found += self._look_into(pid, exe, address)
        return found

    def look_at(self, pids: Set[int], pods: Mapping[NamespaceId, str]) -> list[TlsProcess]:
        """Look into those of these processes that are in these network namespaces."""
        found: list[TlsProcess] = []
        for pid in sorted(pids):
            netns = self._procfs.netns(pid)
            if netns is not None and netns in pods:
                found += self._look_into(pid, self._procfs.exe(pid), pods[netns])
        return found

    def _look_into(self, pid: int, exe: str | None, address: str) -> Iterator[TlsProcess]:
        process = self._processes.get(pid)
        if process is None or process.exe != exe:
            process = self._processes[pid] = _Process(exe)
        fuse = fuse_devices(self._text(pid, "mountinfo"))
        if not fuse:
            self._look_ahead(pid)
        # 1. What the process has mapped. A file of FUSE may let its reader wait without end.
        verdicts: dict[str, str | None] = {}
        program: str | None = None
        for file in mapped_files(self._text(pid, "maps")):
            if not may_have_tls(file, exe) or file.device in fuse:
                continue
            link = f"{self._procfs}/{pid}/map_files/{file.addresses}"
            program = link if file.path == exe else program
            verdict = self._look_into_file(link, file, process.files)
            if verdict is not None and verdicts.get(verdict.library, "") is not None:
                verdicts[verdict.library] = verdict.reason
        # 2. A library may be a part of the program.
        if not verdicts and program is not None:
            verdict = self._look_into_file(program, None, process.files)
            if verdict is not None:
                verdicts[verdict.library] = verdict.reason
        for library, reason in verdicts.items():
            if library not in process.told:
                process.told.add(library)
                yield TlsProcess(address, pid, (exe or "?").rpartition("/")[2], library, reason)

    def _look_into_file(self, path: str, file: MappedFile | None, files: set[FileId]) -> FileVerdict | None:
        """The verdict on a file; on a program as a whole where `file` is None. None if it cannot be opened."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            status = os.fstat(descriptor)
            key = (status.st_dev, status.st_ino, file is None)
            files.add(key)
            self._used[key] = time.monotonic()
            room = len(self._files) < _MOST_FILES and status.st_size <= LARGEST_FILE
            if key not in self._files and stat.S_ISREG(status.st_mode) and room:
                self._files[key] = self._judge(key, descriptor, None if file is None else file.name)
            return self._files.get(key)
        finally:
            os.close(descriptor)

    def _judge(self, key: FileId, descriptor: int, name: str | None) -> FileVerdict | None:
        def read(at: int, size: int) -> bytes:
            try:
                return os.pread(descriptor, size, at)
            except (OSError, OverflowError):
                return b""

        verdict = judge_program(read) if name is None else judge(name, read, self._machine)
        if verdict is not None and verdict.reason is None:
            try:
                self._attach(key, f"/proc/self/fd/{descriptor}", verdict)  # whatever becomes of the process
            except OSError as error:
                return FileVerdict(verdict.library, f"the kernel attaches no program to it: {explain(error)}")
        return verdict

    def _look_ahead(self, pid: int) -> None:
        """Look into the libraries in the usual folders of a process's root."""
        root = self._root(pid)
        if root is None or root in self._roots:
            return
        files = self._roots[root] = set()
        folders = [f"{self._procfs}/{pid}/root/{folder}" for folder in _FOLDERS]
        while folders and len(files) < _MOST_AHEAD:
            folder = folders.pop()
            try:
                with os.scandir(folder) as entries:
                    for _, entry in zip(range(_MOST_ENTRIES), entries, strict=False):
                        # A link may lead out of the root.
                        if entry.name.startswith(_LIBRARIES) and entry.is_file(follow_symlinks=False):
                            self._look_into_file(entry.path, MappedFile("", "", 0, entry.name), files)
                        elif entry.name.endswith(_MULTIARCH) and entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
            except OSError:
                continue

    def _root(self, pid: int) -> tuple[int, int] | None:
        """Device and inode of a process's root."""
        try:
            status = os.stat(f"{self._procfs}/{pid}/root")  # noqa: PTH116 - for thousands of processes
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _text(self, pid: int, name: str) -> bytes:
        """What the kernel writes about a process; empty where it has ended."""
        try:
            with open(f"{self._procfs}/{pid}/{name}", "rb") as file:  # noqa: PTH123
                return file.read(LARGEST_MAPS)
        except OSError:
            return b""
