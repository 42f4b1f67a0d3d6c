"""Run a program as an ordinary user who can read this interpreter and this checkout, wherever they lie.

Continuous integration runs as root, often with the interpreter or the checkout below a home that only root may enter.
So: in a mount namespace of its own, every such directory is covered by one that holds only the way.
usage: python ordinary_user.py [--no-user-namespaces | --root-with [CAPABILITY[,…]]] PROGRAM [ARG …]

The user has one uid and gid, as on a machine without the package uidmap: newuidmap(1) and newgidmap(1) are out of
sight. Root with some capabilities only is ordinary, too: without CAP_DAC_OVERRIDE file modes are for it as for anybody.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from harness.sandbox import child, syscalls

REPOSITORY = Path(__file__).resolve().parents[3]
NOBODY = 65534


def shut_ancestor(path: Path) -> Path | None:
    """The outermost directory on the way to `path` that others may not enter."""
    return next(filter(is_shut, reversed(path.parents)), None)


def is_shut(directory: Path) -> bool:
    """Whether only its owner and its group may enter it."""
    return not directory.stat().st_mode & stat.S_IXOTH


def open_the_way(paths: Iterable[Path]) -> None:
    """Make these directories reachable for everybody, in this mount namespace, at the paths that they have."""
    # 1. a directory below another of them comes with that one
    wanted = set(paths)
    outermost = [path for path in wanted if wanted.isdisjoint(path.parents)]
    for path in outermost:
        if is_shut(path):
            sys.exit(f"ordinary_user.py: only its owner may enter {path} itself: chmod go+rx it, and what is in it")
    shut = {path: shut_ancestor(path) for path in outermost}
    # 2. hold each before anything is covered
    held = {path: os.open(path, os.O_PATH | os.O_DIRECTORY) for path in outermost if shut[path] is not None}
    # 3. cover what shuts others out
    for barrier in set(shut.values()):
        if barrier is not None:
            syscalls.mount("tmpfs", str(barrier), "tmpfs", 0, "mode=0755")
    # 4. put back each directory, alone, where it was
    for path, fd in held.items():
        path.mkdir(parents=True)
        syscalls.mount(f"/proc/self/fd/{fd}", str(path), None, syscalls.MS_BIND | syscalls.MS_REC)
        os.close(fd)


def hide_id_maps() -> None:
    """Cover newuidmap(1) and newgidmap(1), where they are, by a file that nobody can execute."""
    for name in ("newuidmap", "newgidmap"):
        found = shutil.which(name)
        if found is not None:
            syscalls.mount("/dev/null", found, None, syscalls.MS_BIND)


def main(argv: list[str]) -> None:
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    hide_id_maps()
    open_the_way([Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), REPOSITORY])
    os.chdir("/")
    if argv[0] == "--no-user-namespaces":
        argv = argv[1:]
        forbid_user_namespaces()
    elif argv[0] == "--root-with":
        child.confine([syscalls.CAPABILITIES[name] for name in filter(None, argv[1].split(","))])
        argv = argv[2:]
    else:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    os.execv(argv[0], argv)


def forbid_user_namespaces() -> None:
    """Go on as an ordinary user in a user namespace whose limit on further ones is 0 (user_namespaces(7))."""
    parent_ready, child_ready = os.pipe(), os.pipe()
    pid = os.getpid()
    if os.fork() == 0:
        os.close(child_ready[1])
        if not os.read(child_ready[0], 1):
            os._exit(1)  # the parent failed, and says why itself
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text(f"0 0 1\n{NOBODY} {NOBODY} 1\n")
        os.write(parent_ready[1], b"x")
        os._exit(0)
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    os.write(child_ready[1], b"x")
    os.read(parent_ready[0], 1)
    os.wait()
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


if __name__ == "__main__":
    main(sys.argv[1:])
