"""The few system calls that Python 3.11 does not offer, by way of ctypes.

Numbers are those of the Linux headers named beside them; they are the same on every architecture that Linux runs on.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

# linux/sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# linux/mount.h
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_NAME = 15

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(ctypes.c_int(flags)), f"unshare({flags:#x})")


def setns(fd: int, kind: int) -> None:
    """setns(2): move the calling thread into the namespace that `fd` refers to."""
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), "setns")


def mount(source: str, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    """mount(2)."""
    result = _libc.mount(
        source.encode(),
        os.fsencode(target),
        None if kind is None else kind.encode(),
        flags,
        None if data is None else data.encode(),
    )
    _check(result, f"mount {kind or source} on {target}")


def set_death_signal(signum: int) -> None:
    """prctl(PR_SET_PDEATHSIG): have the kernel send `signum` when the parent thread is gone."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signum), 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def set_name(name: str) -> None:
    """prctl(PR_SET_NAME): the name that ps shows, at most 15 bytes."""
    _check(_libc.prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0), "prctl(PR_SET_NAME)")


def execve(path: bytes, argv: Sequence[bytes], environ: Sequence[bytes]) -> None:
    """execve(2) with the environment as it is given: repeated keys, entries without `=`, bytes that are not UTF-8.

    Returns only by raising OSError.
    """
    args = (ctypes.c_char_p * (len(argv) + 1))(*argv, None)
    env = (ctypes.c_char_p * (len(environ) + 1))(*environ, None)
    _libc.execve(ctypes.c_char_p(path), args, env)
    code = ctypes.get_errno()
    raise OSError(code, f"{os.fsdecode(path)}: {os.strerror(code)}")
