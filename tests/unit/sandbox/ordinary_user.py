"""Run a program as an ordinary user who can read this interpreter and this checkout, wherever they lie.

Continuous integration runs as root, often with the interpreter below a home that only root may enter. So: in a mount
namespace of its own, every directory on the way that shuts others out is covered by one that holds only the way.
usage: python ordinary_user.py [--no-user-namespaces | --root-with [CAPABILITY[,…]]] PROGRAM [ARG …]

Root with some capabilities only is ordinary, too: without CAP_DAC_OVERRIDE file modes are for it as for anybody.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from harness.sandbox import child, syscalls

REPOSITORY = Path(__file__).resolve().parents[3]
NOBODY = 65534


def shut_ancestor(path: Path) -> Path | None:
    """The outermost directory on the way to `path` that others may not enter."""
    for ancestor in [*reversed(path.parents), path]:
        if not ancestor.stat().st_mode & stat.S_IXOTH:
            return ancestor
    return None


def open_the_way(paths: list[Path]) -> None:
    held = {path: os.open(path, os.O_PATH | os.O_DIRECTORY) for path in paths}
    for path, fd in held.items():
        shut = shut_ancestor(path)
        if shut is not None:
            syscalls.mount("tmpfs", str(shut), "tmpfs", 0, "mode=0755")
        if not path.exists():
            path.mkdir(parents=True)
            syscalls.mount(f"/proc/self/fd/{fd}", str(path), None, syscalls.MS_BIND | syscalls.MS_REC)
        os.close(fd)


def main(argv: list[str]) -> None:
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
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
