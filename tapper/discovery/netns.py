"""The identity of a network namespace."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class NamespaceId(NamedTuple):
    """What a namespace is: device and inode of its file (ioctl_ns(2)). Process ids come and go, this does not."""

    device: int
    inode: int


def namespace_of(path: str | Path) -> NamespaceId:
    """The identity of the namespace that a link such as /proc/PID/ns/net leads to. Raises OSError."""
    status = os.stat(path)  # noqa: PTH116 - asked of many processes, again and again
    return NamespaceId(status.st_dev, status.st_ino)


def own_namespace() -> NamespaceId:
    """The calling thread's network namespace. Raises OSError where /proc is not mounted."""
    return namespace_of("/proc/thread-self/ns/net")
