"""The identity of a network namespace, and of the user namespace that owns it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import NamedTuple

_NS_GET_USERNS = 0xB701  # linux/nsfs.h


class NamespaceId(NamedTuple):
    """Device and inode of a namespace's file (ioctl_ns(2)). They identify it for as long as it exists."""

    device: int
    inode: int


def namespace_of(link: str | Path | int) -> NamespaceId:
    """The identity of the namespace to which a link such as /proc/PID/ns/net, or an open descriptor of it, leads.
    Raises OSError."""
    status = os.stat(link)  # noqa: PTH116 - every look at all processes calls this; Path.stat costs more
    return NamespaceId(status.st_dev, status.st_ino)


def owner_of(path: str | Path) -> NamespaceId:
    """The user namespace that owns the network namespace to which a link leads: that of the process that made it
    (NS_GET_USERNS, ioctl_ns(2)). Raises OSError, with EPERM for an owner outside of this process's user namespace."""
    network = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        owner = fcntl.ioctl(network, _NS_GET_USERNS)
    finally:
        os.close(network)
    try:
        return namespace_of(owner)
    finally:
        os.close(owner)


def own_user_namespace() -> NamespaceId:
    """This process's user namespace. Raises OSError where /proc is not mounted."""
    return namespace_of("/proc/self/ns/user")


def own_namespace() -> NamespaceId:
    """The calling thread's network namespace. Raises OSError where /proc is not mounted."""
    return namespace_of("/proc/thread-self/ns/net")
