"""Reading procfs (proc(5)), of this machine or of a node whose procfs is mounted elsewhere.

A process may vanish between any two reads; this is normal and looks like ENOENT or ESRCH. When a process's first thread
has ended while others live, its own exe, environ and ns are gone, but those of the threads under task/ exist.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tapper.discovery.envoy import ProcessSnapshot, Unreadable, relevant_variables
from tapper.discovery.finders import is_envoy_path
from tapper.discovery.process_memory import ProcessMemory
from tapper.errors import ProcfsError, explain
from tapper.namespaces.identity import NamespaceId, namespace_of

T = TypeVar("T")

ONE_THREAD = 3
"""Links of the task folder of a process with one thread: a folder's two, and one a thread (proc_task_getattr)."""
_GONE = frozenset({errno.ENOENT, errno.ESRCH})
_LONGEST_LINE = 1 << 16
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
        """Let the thread end that reads the memory of processes. The next read starts another one."""
        self._memory.close()

    def own_pid(self) -> int | None:
        """This process's number in that procfs; None where it is not in there."""
        try:
            return int(os.readlink(f"{self._root}/self"))
        except (OSError, ValueError):
            return None  # the procfs of another PID namespace

    def numbers_are_ours(self) -> bool:
        """Whether its process ids are those of this process's PID namespace. A node's procfs has others than a
        container."""
        return self._status("self", "NSpid") == [str(os.getpid())]

    def listing(self) -> dict[str, int]:
        """The folders of the processes, by name (the process id), each with its inode: another process with the same id
        has another inode. Raises ProcfsError for a root that is missing or is no procfs."""
        try:
            with os.scandir(self._root) as entries:  # for thousands of processes; Path.iterdir is slow
                listed = {entry.name: entry.inode() for entry in entries}
        except OSError as error:
            raise ProcfsError(f"cannot read the procfs at {self._root}: {explain(error)} (--procfs)") from error
        others = [name for name in listed if not name.isdigit() or not name.isascii()]
        if "self" not in others or "stat" not in others:
            raise ProcfsError(f"{self._root} is not a procfs: it has no self and stat (--procfs)")
        for name in others:
            del listed[name]
        return listed

    def snapshot(
        self, pid: int, *, detail: bool, proxy: Callable[[str], bool] = is_envoy_path, namespaces: bool = False
    ) -> ProcessSnapshot | None:
        """A process as it is now; None where it has vanished.

        Without `detail`, environment and namespace are read only if `proxy(exe)` is true. Any other process costs one
        readlink, and one stat more with `namespaces`.
        """
        base = f"{self._root}/{pid}"
        exe = _try(os.readlink, f"{base}/exe")
        if exe is None:
            base = self._folder(pid)
            exe = _try(os.readlink, f"{base}/exe")
            if exe is None and not os.path.lexists(base):
                return None
        whole = detail or (isinstance(exe, str) and proxy(exe))
        netns = _try(namespace_of, f"{base}/ns/net") if whole or namespaces else None
        if not whole:
            return ProcessSnapshot(pid, exe, netns=netns)
        environ = _try(self._memory.read, f"{base}/environ")
        if isinstance(environ, bytes):
            environ = relevant_variables(environ)
        if not detail:
            return ProcessSnapshot(pid, exe, environ, netns)
        name = _text(_try(_read_all, f"{base}/comm", _LONGEST_LINE)).removesuffix("\n")
        argv0 = _text(_try(self._memory.read, f"{base}/cmdline", _LONGEST_LINE)).partition("\0")[0]
        return ProcessSnapshot(pid, exe, environ, netns, name, argv0)

    def namespace_path(self, pid: int) -> str:
        """The link that leads into the process's network namespace."""
        return f"{self._folder(pid)}/ns/net"

    def exe(self, pid: int) -> str | None:
        """The exe link; None where it is gone or may not be read."""
        exe = _try(os.readlink, f"{self._folder(pid)}/exe")
        return exe if isinstance(exe, str) else None

    def netns(self, pid: int) -> NamespaceId | None:
        """The network namespace; None where it is gone or may not be read."""
        netns = _try(namespace_of, self.namespace_path(pid))
        return netns if isinstance(netns, NamespaceId) else None

    def environ(self, pid: int) -> bytes:
        """The environment block; empty where it is gone or may not be read."""
        environ = _try(self._memory.read, f"{self._folder(pid)}/environ")
        return environ if isinstance(environ, bytes) else b""

    def arguments(self, pid: int) -> list[bytes]:
        """The command line, which the process can change; empty where it is gone or may not be read."""
        raw = _try(self._memory.read, f"{self._folder(pid)}/cmdline", _LONGEST_LINE)
        return raw.removesuffix(b"\0").split(b"\0") if isinstance(raw, bytes) and raw else []

    def tcp_on_lo(self, pid: int) -> int | None:
        """How many TCP packets passed the lo of the process's network namespace, at least; None where it is gone or may
        not be read. These are the packets on lo without as many as all interfaces had of other protocols."""
        texts = [
            _text(_try(_read_all, f"{self._folder(pid)}/net/{name}", _LARGEST_STATUS))
            for name in ("dev", "snmp", "snmp6")
        ]
        on_lo = re.search(r"^\s*lo:\s*\d+\s+(\d+)", texts[0], re.MULTILINE)  # bytes, then packets
        in_all, of_tcp = _snmp(texts[1], "Ip", "InReceives"), _snmp(texts[1], "Tcp", "InSegs")
        if on_lo is None or in_all is None or of_tcp is None:
            return None
        in_ipv6 = re.search(r"^Ip6InReceives\s+(\d+)", texts[2], re.MULTILINE)  # without IPv6 there is no such file
        others = in_all + int(in_ipv6[1] if in_ipv6 else 0) - of_tcp
        return int(on_lo[1]) - max(0, others)

    def parent(self, pid: int) -> int | None:
        """The parent process; None where it is not known, and for the first process."""
        value = self._status(str(pid), "PPid")
        return int(value[0]) or None if value else None

    def _status(self, process: str, field: str) -> list[str]:
        """The words of one line of a process's status file; empty where there is no such line."""
        for line in _text(_try(_read_all, f"{self._root}/{process}/status", _LARGEST_STATUS)).splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return value.split()
        return []

    def _folder(self, pid: int) -> str:
        """The folder to read from: the process's own, or that of another thread where the first thread has ended."""
        own = f"{self._root}/{pid}"
        if _try(os.readlink, f"{own}/exe") is None and not _has_one_thread(own):
            threads = _try(os.listdir, f"{own}/task")
            for name in threads if isinstance(threads, list) else []:
                thread = f"{own}/task/{name}"
                if name != str(pid) and isinstance(_try(os.readlink, f"{thread}/exe"), str):
                    return thread
        return own


def _try(read: Callable[..., T], path: str, *arguments: object) -> T | Unreadable | None:
    """The result of `read`; None for a file that has vanished, Unreadable for one that the kernel refuses.

    The kernel also answers EACCES for a link of a process that has just ended (proc_ns_get_link in
    fs/proc/namespaces.c, proc_fd_access_allowed in fs/proc/base.c).
    """
    try:
        return read(path, *arguments)
    except OSError as error:
        if error.errno in _GONE or not os.path.lexists(path):
            return None
        return Unreadable(error.errno or errno.EIO)


def _read_all(path: str, most: int) -> bytes:
    """The first `most` bytes of a file that the kernel writes by itself. Raises OSError."""
    with open(path, "rb") as file:  # noqa: PTH123 - as namespace_of
        return file.read(most)


def _snmp(text: str, protocol: str, counter: str) -> int | None:
    """A counter of /proc/net/snmp: of each protocol, one line names the counters and the next has their values."""
    lines = [line.split() for line in text.splitlines() if line.startswith(f"{protocol}:")]
    if len(lines) != 2 or counter not in lines[0]:
        return None
    return int(dict(zip(*lines, strict=False)).get(counter, "0"))


def _has_one_thread(folder: str) -> bool:
    """Whether a process has one thread, as kernel threads and zombies have, or has vanished."""
    try:
        return os.stat(f"{folder}/task").st_nlink == ONE_THREAD  # noqa: PTH116 - as namespace_of
    except OSError:
        return True


def _text(raw: bytes | Unreadable | None) -> str:
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else ""
