"""Finding the sockets and processes that still hold a network namespace.

An open socket pins a namespace long after its pod is gone.
"""

from __future__ import annotations

import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path

_SIOCGSKNS = 0x894C  # linux/sockios.h: the network namespace of a socket, as a new descriptor


def sockets_inside(namespaces: set[int]) -> dict[int, str]:
    """This process's open sockets in one of the network namespaces (inodes): descriptor -> description.

    Needs CAP_NET_ADMIN over the namespace, which its creator has.
    """
    found = {}
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                continue
            namespace = fcntl.ioctl(fd, _SIOCGSKNS)
        except OSError:
            continue  # closed meanwhile (the descriptor of the listing), or a namespace of somebody else
        try:
            if os.fstat(namespace).st_ino in namespaces:
                found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(namespace)
    return found


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that was found in a network namespace; its start time tells it from a later process of the same pid."""

    pid: int
    started: str
    """Clock ticks after the boot (proc_pid_stat(5), starttime)."""

    @property
    def lives(self) -> bool:
        return _started(self.pid) == self.started


def processes_inside(namespaces: set[int]) -> list[Holder]:
    """This machine's processes in one of the network namespaces (inodes).

    The kernel reuses inode numbers, so wait for the processes that were in the namespace, not for the inode to be
    empty.
    """
    found = []
    wanted = {f"net:[{inode}]" for inode in namespaces}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                inside = os.readlink(f"/proc/{entry.name}/ns/net") in wanted
            except OSError:
                continue  # gone, or another user's
            if inside and (started := _started(int(entry.name))):
                found.append(Holder(int(entry.name), started))
    return found


def _started(pid: int) -> str:
    """The start time of a process; empty if there is none, or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
