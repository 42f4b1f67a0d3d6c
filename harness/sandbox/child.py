"""The steps of a process between init's fork and its execve(2), and visits to a pod's namespace.

Runs in a single-threaded parent between fork and exec, so ordinary Python is safe here.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable

from harness.sandbox import protocol, syscalls

TYPE_CHECKING = False  # typing's own would cost its import
if TYPE_CHECKING:
    from typing import NoReturn


class InNet:
    """Enter a pod's network namespace for a moment. If the way back fails, the node is no longer safe, and ends."""

    def __init__(self, pod: int | None, own: int) -> None:
        self._pod = pod
        self._own = own

    def __enter__(self) -> None:
        if self._pod is not None:
            enter_net(self._pod)

    def __exit__(self, *_: object) -> None:
        if self._pod is not None:
            try:
                syscalls.setns(self._own, syscalls.CLONE_NEWNET)
            except OSError as error:
                sys.stderr.write(f"init: cannot return to the node's network namespace: {error}\n")
                os._exit(1)


def enter_net(pause_pid: int) -> None:
    fd = os.open(f"/proc/{pause_pid}/ns/net", os.O_RDONLY)
    try:
        syscalls.setns(fd, syscalls.CLONE_NEWNET)
    finally:
        os.close(fd)


def bind_in_private(binds: list[list[str]]) -> None:
    """In a new mount namespace, mount each source file over its target, which need not exist.

    The directories of the targets are covered by an empty tmpfs, so the machine's own directories stay as they are.
    """
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    # open before mounting: a tmpfs may cover the source's own directory
    held = [(os.open(protocol.raw(source), os.O_PATH), target) for source, target in binds]
    for directory in {target.rpartition("/")[0] or "/" for _, target in binds}:
        syscalls.mount("tmpfs", directory, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=0755")
    for source, target in held:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o755))
        syscalls.mount(f"/proc/self/fd/{source}", target, None, syscalls.MS_BIND)
        os.close(source)


def make_read_only() -> None:
    """In a new mount namespace, make every file system read-only."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.make_read_only()


def confine(capabilities: list[int]) -> None:
    """Keep these capabilities and no way to get others, as a container runtime does."""
    syscalls.set_no_new_privileges()
    syscalls.limit_capabilities(frozenset(capabilities))


def drop_to(uid: int | None, gid: int | None) -> None:
    if gid is not None:
        with open("/proc/self/setgroups", encoding="ascii") as file:  # noqa: PTH123 - without pathlib: harness.sandbox.init
            allowed = file.read().strip() == "allow"
        if allowed:
            os.setgroups([])
        os.setresgid(gid, gid, gid)
    if uid is not None:
        os.setresuid(uid, uid, uid)


def become(prepare: Callable[[], None], run: Callable[[], NoReturn], error_write: int) -> NoReturn:
    """In the forked child: run both steps, and tell the parent of a failure. Never returns, never raises."""
    try:
        signal.set_wakeup_fd(-1)
        for signum in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
            signal.signal(signum, signal.SIG_DFL)
        prepare()
        run()
    except OSError as error:
        os.write(error_write, f"{error.errno or errno.EIO} {error.strerror or error}".encode())
    except BaseException as error:  # the child must not run its parent's code, whatever happens
        os.write(error_write, f"{errno.EIO} {error!r}".encode())
    os._exit(127)
