"""The processes of pods, and what of their TLS can be read.

A process is looked into when it is found, when it begins a program, and when it maps a file that may be a TLS library.
A file is looked into once, whichever processes map it. Two kinds of files are looked into for short-lived processes,
whose first words would be missed: libraries in the usual folders of a process's root, before anybody maps them; and a
program whose process has ended meanwhile, in the roots of the pods.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import time
from collections.abc import Callable, Iterator, Mapping
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
    Mounts,
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
_MOST_OF_ROOT: Final = 64
"""Files of a root that are kept although no process has them."""
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_OPENAT2: Final = 437
_RESOLVE_NO_XDEV, _RESOLVE_IN_ROOT = 0x01, 0x10

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class _Process:
    """A process of a pod."""

    exe: str | None
    address: str
    """Its pod's."""
    root: int | None
    """The mount that its root is; None where files in there are not to be opened by their names."""
    files: set[FileId] = field(default_factory=set)
    told: set[str] = field(default_factory=set)
    """The libraries that were returned."""


class TlsProcesses:
    """Looks into processes. `attach` and `detach` are called for files that can be read, from when on and as long as a
    process of a pod may map them. `began_in` returns the inode of the network namespace in which a process has begun a
    program, also if it has ended; None where that is not known."""

    def __init__(
        self,
        procfs: Procfs,
        attach: Attach = lambda *_: None,
        detach: Callable[[FileId], None] = lambda _: None,
        began_in: Callable[[int], int | None] = lambda _: None,
    ) -> None:
        self._procfs = procfs
        self._attach = attach
        self._detach = detach
        self._began_in = began_in
        self._scanner = Scanner(procfs, {Finder.NETNS})
        self._machine = os.uname().machine
        self._processes: dict[int, _Process] = {}
        self._files: dict[FileId, FileVerdict | None] = {}
        self._used: dict[FileId, float] = {}
        """When a process was last known that may map a file, by time.monotonic."""
        self._roots: dict[int, set[FileId]] = {}
        """The files that are kept although no process has them, by the mount that is the root of processes."""

    def look(self, pods: Mapping[NamespaceId, str], *, everything: bool = True) -> list[TlsProcess]:
        """Look into the processes in these network namespaces, each with its pod's address: into all, or into new ones.
        Returns what was not returned before. Raises TapperError."""
        residents = self._scanner.scan(None).residents
        listed = [(pid, exe, netns) for netns in pods for pid, exe in residents.get(netns, ())]
        found: list[TlsProcess] = []
        # 1. The processes.
        for pid, exe, netns in listed:
            known = self._processes.get(pid)
            if everything or known is None or known.exe != exe:
                found += self._look_into(pid, exe, pods[netns])
        pids = {pid for pid, _, _ in listed}
        self._processes = {pid: process for pid, process in self._processes.items() if pid in pids}
        # 2. The files that none of them has any more.
        roots = {process.root for process in self._processes.values()}
        self._roots = {root: files for root, files in self._roots.items() if root in roots}
        now = time.monotonic()
        for file in set[FileId]().union(*(it.files for it in self._processes.values()), *self._roots.values()):
            self._used[file] = now
        for file in [file for file, used in self._used.items() if now - used > _KEPT_S]:
            self._detach(file)
            del self._used[file]
            self._files.pop(file, None)
        return found

    def look_at(self, programs: Mapping[int, str], pods: Mapping[NamespaceId, str]) -> list[TlsProcess]:
        """Look into those of these processes that are in these network namespaces; and into the programs, by their
        paths, of those that have ended."""
        found: list[TlsProcess] = []
        inodes = {netns.inode: netns for netns in pods}
        for pid, program in sorted(programs.items()):
            netns = self._procfs.netns(pid)
            ended_in = inodes.get(self._began_in(pid) or 0)
            if netns is not None and netns in pods:
                found += self._look_into(pid, self._procfs.exe(pid), pods[netns])
            elif netns is None and ended_in is not None and program:
                self._look_for(program, pods[ended_in])
        return found

    def _look_for(self, program: str, address: str) -> None:
        """Look into a program in the roots of a pod's processes. It is kept if it can be read."""
        users = {process.root: pid for pid, process in self._processes.items() if process.address == address}
        for root, pid in users.items():
            files, found = self._roots.get(root or 0), set[FileId]()
            if files is not None and len(files) < _MOST_OF_ROOT:
                verdict = self._verdict_on(self._open_in_root(pid, program), _name(program), found)
                if verdict is not None and verdict.reason is None:
                    files |= found

    def _look_into(self, pid: int, exe: str | None, address: str) -> Iterator[TlsProcess]:
        mounts = Mounts.parse(self._text(pid, "mountinfo"))
        process = self._processes.get(pid)
        if process is None or process.exe != exe:
            process = self._processes[pid] = _Process(exe, address, mounts.root)
        if process.root is not None and process.root not in self._roots:
            self._roots[process.root] = set()
            self._look_ahead(pid, self._roots[process.root])
        # 1. What the process has mapped. A file of FUSE may let its reader wait without end.
        verdicts: dict[str, str | None] = {}
        program: str | None = None
        for file in mapped_files(self._text(pid, "maps")):
            if not may_have_tls(file, exe) or file.device in mounts.fuse:
                continue
            link = f"{self._procfs}/{pid}/map_files/{file.addresses}"
            program = link if file.path == exe else program
            verdict = self._verdict_on(_open(link), file.name, process.files)
            if verdict is not None and verdicts.get(verdict.library, "") is not None:
                verdicts[verdict.library] = verdict.reason
        # 2. A library may be a part of the program.
        if not verdicts and program is not None:
            verdict = self._verdict_on(_open(program), None, process.files)
            if verdict is not None:
                verdicts[verdict.library] = verdict.reason
        for library, reason in verdicts.items():
            if library not in process.told:
                process.told.add(library)
                yield TlsProcess(address, pid, _name(exe or "?"), library, reason)

    def _verdict_on(self, descriptor: int | None, name: str | None, files: set[FileId]) -> FileVerdict | None:
        """The verdict on an open file, which is closed; on a program as a whole where `name` is None."""
        if descriptor is None:
            return None
        try:
            status = os.fstat(descriptor)
            key = (status.st_dev, status.st_ino, name is None)
            files.add(key)
            self._used[key] = time.monotonic()
            room = len(self._files) < _MOST_FILES and status.st_size <= LARGEST_FILE
            if key not in self._files and stat.S_ISREG(status.st_mode) and room:
                self._files[key] = self._judge(key, descriptor, name)
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

    def _look_ahead(self, pid: int, files: set[FileId]) -> None:
        """Look into the libraries in the usual folders of a process's root."""
        folders = list(_FOLDERS)
        while folders and len(files) < _MOST_OF_ROOT:
            folder = folders.pop()
            descriptor = self._open_in_root(pid, folder)
            if descriptor is None:
                continue
            try:
                with os.scandir(descriptor) as entries:
                    for _, entry in zip(range(_MOST_ENTRIES), entries, strict=False):
                        if entry.name.startswith(_LIBRARIES) and entry.is_file(follow_symlinks=False):
                            self._verdict_on(self._open_in_root(pid, f"{folder}/{entry.name}"), entry.name, files)
                        elif entry.name.endswith(_MULTIARCH) and entry.is_dir(follow_symlinks=False):
                            folders.append(f"{folder}/{entry.name}")
            except OSError:
                continue
            finally:
                os.close(descriptor)

    def _open_in_root(self, pid: int, path: str) -> int | None:
        """Open a file by its path in a process's root. Links lead nowhere else, and neither do they into another file
        system, which may be one of FUSE (openat2(2))."""
        root = _open(f"{self._procfs}/{pid}/root")
        if root is None:
            return None
        how = struct.pack("=QQQ", _FLAGS, 0, _RESOLVE_NO_XDEV | _RESOLVE_IN_ROOT)
        try:
            opened = int(_libc.syscall(ctypes.c_long(_OPENAT2), root, os.fsencode(path), how, len(how)))
        finally:
            os.close(root)
        return opened if opened >= 0 else None

    def _text(self, pid: int, name: str) -> bytes:
        """What the kernel writes about a process; empty where it has ended."""
        try:
            with open(f"{self._procfs}/{pid}/{name}", "rb") as file:  # noqa: PTH123
                return file.read(LARGEST_MAPS)
        except OSError:
            return b""


def _open(path: str) -> int | None:
    try:
        return os.open(path, _FLAGS)
    except OSError:
        return None


def _name(path: str) -> str:
    return path.rpartition("/")[2]
