"""Finding what still holds a network namespace: an open socket pins it long after its pod is gone."""

from __future__ import annotations

import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path

_SIOCGSKNS = 0x894C  # linux/sockios.h: the network namespace of a socket, as a new descriptor


def sockets_inside(namespaces: set[int]) -> dict[int, str]:
    """This process's open sockets that live in one of the network namespaces (inodes): descriptor -> what it is.

    Needs CAP_NET_ADMIN over the namespace, which the one who made it has.
    """
    found = {}
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                continue
            namespace = fcntl.ioctl(fd, _SIOCGSKNS)
        except OSError:
            continue  # closed meanwhile (the listing's own descriptor), or no namespace of ours
        try:
            if os.fstat(namespace).st_ino in namespaces:
                found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(namespace)
    return found


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that was found in a network namespace. It is told apart from a later one of the same pid."""

    pid: int
    started: str
    """Clock ticks after the boot (proc_pid_stat(5), starttime)."""

    @property
    def lives(self) -> bool:
        return _started(self.pid) == self.started


def processes_inside(namespaces: set[int]) -> list[Holder]:
    """This machine's processes that are in one of the network namespaces (inodes).

    The number of a namespace that is gone is given to the next one: who waits for a namespace's end has to wait for
    the ends of those that were in it, and not for nobody to be in a namespace of that number.
    """
    found = []
    wanted = {f"net:[{inode}]" for inode in namespaces}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                inside = os.readlink(f"/proc/{entry.name}/ns/net") in wanted
            except OSError:
                continue  # gone, or another user's: not ours
            if inside and (started := _started(int(entry.name))):
                found.append(Holder(int(entry.name), started))
    return found


def _started(pid: int) -> str:
    """When a process was started; empty if there is none, or none but its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
