"""Finding what still holds a network namespace: an open socket pins it long after its pod is gone."""

from __future__ import annotations

import fcntl
import os
import stat

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


def processes_inside(namespaces: set[int]) -> list[str]:
    """The pids of this machine's processes that are in one of the network namespaces (inodes)."""
    found = []
    wanted = {f"net:[{inode}]" for inode in namespaces}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                if os.readlink(f"/proc/{entry.name}/ns/net") in wanted:
                    found.append(entry.name)
            except OSError:
                continue  # gone, or another user's: not ours
    return found
