"""Reading procfs (proc(5)), of this machine or of a node whose procfs is mounted elsewhere.

A process may vanish between any two reads; that is normal and looks like ENOENT or ESRCH. When a process's first thread
has ended while others live on, its own exe, environ and ns are gone, but those of its threads under task/ are there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from tapper.discovery.envoy import Process, Unreadable, is_envoy_path, what_counts
from tapper.discovery.process_memory import ProcessMemory
from tapper.errors import ProcfsError, explain
from tapper.namespaces.identity import NamespaceId, namespace_of

T = TypeVar("T")

_GONE = frozenset({errno.ENOENT, errno.ESRCH})
_ONE_THREAD = 3  # links of a task folder: two, and one for each thread (proc_task_getattr, fs/proc/base.c)
_BEGINNING = 1 << 16
_LARGEST_STATUS = 1 << 20
"""In bytes: a status file names up to 65,536 groups (NGROUPS_MAX)."""


class Procfs:
    """A procfs root. Construction reads nothing. Not for several threads."""

    def __init__(self, root: str | Path = "/proc") -> None:
        self._root = os.fspath(root)
        self._memory = ProcessMemory()

    def __str__(self) -> str:
        return self._root

    def close(self) -> None:
        """Let go of the thread that reads the memory of processes. Reading again starts another one."""
        self._memory.close()

    def namespace_path(self, pid: int) -> str:
        """The file that leads into the process's network namespace."""
        return f"{self._task(pid)}/ns/net"

    def own_pid(self) -> int | None:
        """This process's number in that procfs; None where it does not show there."""
        try:
            return int(os.readlink(f"{self._root}/self"))
        except (OSError, ValueError):
            return None  # another PID namespace, or none of our business: the caller can do without

    def numbers_are_ours(self) -> bool:
        """Whether its process ids mean the same here: not so for a node's procfs seen from a PID namespace within."""
        return self._status("self", "NSpid") == [str(os.getpid())]

    def listing(self) -> dict[str, int]:
        """The processes there are, by the names of their folders, each with the folder's inode: another one when the
        number has gone to another process. Raises ProcfsError for a root that is missing or is no procfs."""
        try:
            with os.scandir(self._root) as entries:  # the hot path: Path.iterdir makes an object for each name
                found = {entry.name: entry.inode() for entry in entries}
        except OSError as error:
            raise ProcfsError(f"cannot read the procfs at {self._root}: {explain(error)} (--procfs)") from error
        others = [name for name in found if not name.isdigit() or not name.isascii()]
        if "self" not in others or "stat" not in others:
            raise ProcfsError(f"{self._root} is not a procfs: it has no self and stat (--procfs)")
        for name in others:
            del found[name]
        return found

    def snapshot(
        self, pid: int, *, detail: bool, proxy: Callable[[str], bool] = is_envoy_path, namespaces: bool = False
    ) -> Process | None:
        """What there is to know about a process; None where it has vanished.

        Without `detail`, environment and namespace are read only of what `proxy` says of its exe link is one; the rest
        costs one readlink, and one stat more where `namespaces` are wanted of all.
        """
        base = f"{self._root}/{pid}"
        exe = _read(lambda: os.readlink(f"{base}/exe"))
        if exe is None:
            base = self._task(pid)
            exe = _read(lambda: os.readlink(f"{base}/exe"))
            if exe is None and not os.path.lexists(f"{self._root}/{pid}"):
                return None
        wanted = isinstance(exe, str) and proxy(exe)
        if not (wanted or detail):
            return Process(pid, exe, netns=_read(lambda: namespace_of(f"{base}/ns/net")) if namespaces else None)
        return Process(
            pid,
            exe,
            _read(lambda: self._memory.read(f"{base}/environ")),
            _read(lambda: namespace_of(f"{base}/ns/net")),
            _text(_read(lambda: _read_all(f"{base}/comm", _BEGINNING))).removesuffix("\n") if detail else "",
            _text(_read(lambda: self._memory.read(f"{base}/cmdline", _BEGINNING))).partition("\0")[0] if detail else "",
        )

    def is_still(self, process: Process) -> bool:
        """Whether a process is what `snapshot` said of it without `detail`, at the price of one readlink for most. Its
        environment may be cut down to what counts. False also where only another snapshot can tell."""
        base = f"{self._root}/{process.pid}"
        exe, environ, netns = process.exe, process.environ, process.netns
        try:
            if os.readlink(f"{base}/exe") != exe:
                return False
        except OSError as error:
            gone = error.errno in _GONE
            if not (_has_no_program(base) if gone and exe is None else exe == Unreadable(error.errno or errno.EIO)):
                return False
        try:
            if netns is not None and namespace_of(f"{base}/ns/net") != netns:
                return False
            # an environment that is too large is not read again until the process runs another program
            if environ is None or (isinstance(environ, Unreadable) and environ.errno == errno.EFBIG):
                return True
            beginning = self._memory.read(f"{base}/environ", _BEGINNING)
        except OSError:
            return False
        return len(beginning) < _BEGINNING and what_counts(beginning) == environ

    def exe(self, pid: int) -> str | None:
        """The exe link, or None where there is none any longer or it may not be read."""
        exe = _read(lambda: os.readlink(f"{self._root}/{pid}/exe"))
        if exe is None:
            exe = _read(lambda: os.readlink(f"{self._task(pid)}/exe"))
        return exe if isinstance(exe, str) else None

    def netns(self, pid: int) -> NamespaceId | None:
        """The network namespace, or None likewise."""
        netns = _read(lambda: namespace_of(self.namespace_path(pid)))
        return netns if isinstance(netns, NamespaceId) else None

    def environ(self, pid: int) -> bytes:
        """The environment block; empty where there is none any longer or it may not be read."""
        environ = _read(lambda: self._memory.read(f"{self._task(pid)}/environ"))
        return environ if isinstance(environ, bytes) else b""

    def arguments(self, pid: int) -> list[bytes]:
        """The command line, which is the process's to change; empty likewise."""
        raw = _read(lambda: self._memory.read(f"{self._task(pid)}/cmdline", _BEGINNING))
        return raw.removesuffix(b"\0").split(b"\0") if isinstance(raw, bytes) and raw else []

    def parent(self, pid: int) -> int | None:
        """The process that started it, or whoever took it over; None likewise, and for the first of all."""
        value = self._status(str(pid), "PPid")
        return int(value[0]) or None if value else None

    def _status(self, process: str, field: str) -> list[str]:
        """The words of one line of a process's status file; empty where there is no such line."""
        for line in _text(_read(lambda: _read_all(f"{self._root}/{process}/status", _LARGEST_STATUS))).splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return value.split()
        return []

    def _task(self, pid: int) -> str:
        """The folder to read from: the process's own, or a living thread's where the first thread has ended."""
        own = f"{self._root}/{pid}"
        if _read(lambda: os.readlink(f"{own}/exe")) is not None:
            return own
        threads = _read(lambda: os.listdir(f"{own}/task"))
        for name in threads if isinstance(threads, list) else []:
            task = f"{own}/task/{name}"
            if name != str(pid) and isinstance(_read(partial(os.readlink, f"{task}/exe")), str):
                return task
        return own


def _read(read: Callable[[], T]) -> T | Unreadable | None:
    """Call `read`: None for what has vanished, Unreadable for what the kernel refuses."""
    try:
        return read()
    except OSError as error:
        if error.errno in _GONE:
            return None
        return Unreadable(error.errno or errno.EIO)


def _read_all(path: str, most: int) -> bytes:
    """A file that the kernel writes by itself, at most its first `most` bytes; read(2) on procfs may return less than
    there is. Raises OSError."""
    with open(path, "rb") as file:  # noqa: PTH123 - as netns.namespace_of
        return file.read(most)


def _has_no_program(base: str) -> bool:
    """Whether a process without an exe link is a kernel thread or a zombie: none of its threads can have one, since
    there is but the first."""
    try:
        return os.stat(f"{base}/task").st_nlink == _ONE_THREAD  # noqa: PTH116 - as netns.namespace_of
    except OSError:
        return False


def _text(raw: bytes | Unreadable | None) -> str:
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else ""
