"""The few system calls that Python 3.11 does not offer, by way of ctypes.

Numbers are those of the Linux headers named beside them; they are the same on every architecture that Linux runs on.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence, Set

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
_MNT_DETACH = 2  # sys/mount.h

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_NAME = 15
PR_CAPBSET_READ, PR_CAPBSET_DROP = 23, 24
PR_SET_NO_NEW_PRIVS = 38

_LINUX_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h
_CAPABILITY_NAMES = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
    SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
    MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
CAPABILITIES = {name: number for number, name in enumerate(_CAPABILITY_NAMES.split())}
"""The capabilities as Kubernetes names them, without CAP_, and their numbers in linux/capability.h."""

_SYS_MOUNT_SETATTR = 442  # asm-generic/unistd.h
_AT_RECURSIVE = 0x8000  # linux/fcntl.h
_MOUNT_ATTR_RDONLY = 0x1  # linux/mount.h

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)


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


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    _check(_libc.pivot_root(os.fsencode(new), os.fsencode(old)), f"pivot_root({new}, {old})")


def unmount(target: str) -> None:
    """umount2(2) with MNT_DETACH: the mount and all below it disappear at once."""
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(_MNT_DETACH)), f"umount {target}")


def write_file(path: str, text: str) -> None:
    """Write to an existing file, such as a sysctl, in one write(2)."""
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def set_death_signal(signum: int) -> None:
    """prctl(PR_SET_PDEATHSIG): have the kernel send `signum` when the parent thread is gone."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signum), 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def set_name(name: str) -> None:
    """prctl(PR_SET_NAME): the name that ps shows, at most 15 bytes."""
    _check(_libc.prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0), "prctl(PR_SET_NAME)")


def set_no_new_privileges() -> None:
    """prctl(PR_SET_NO_NEW_PRIVS): no program that is executed from now on gains rights."""
    _check(
        _libc.prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)),
        "prctl(PR_SET_NO_NEW_PRIVS)",
    )


def limit_capabilities(numbers: Set[int]) -> None:
    """Keep these capabilities, and no others, in effect and in the bounding set; nothing can be inherited beyond them
    (capabilities(7)). Raises OSError: EPERM where one of them is not there to keep."""
    number = 0
    while _libc.prctl(PR_CAPBSET_READ, ctypes.c_ulong(number), 0, 0, 0) >= 0:  # -1: the kernel has no more
        if number not in numbers:
            _check(_libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0), "prctl(PR_CAPBSET_DROP)")
        number += 1
    header = struct.pack("=Ii", _LINUX_CAPABILITY_VERSION_3, 0)
    bits = sum(1 << number for number in numbers)
    low, high = bits & 0xFFFF_FFFF, bits >> 32
    data = struct.pack("=6I", low, low, 0, high, high, 0)  # effective, permitted, inheritable; twice 32 of them
    _check(_libc.capset(header, data), "capset")


def make_read_only(path: str = "/", *, recursive: bool = True) -> None:
    """mount_setattr(2): a mount, with all below it if `recursive`, as the calling process's mount namespace has it."""
    attributes = struct.pack("=4Q", _MOUNT_ATTR_RDONLY, 0, 0, 0)  # attr_set, attr_clr, propagation, userns_fd
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(-1),
        os.fsencode(path),
        ctypes.c_uint(_AT_RECURSIVE if recursive else 0),
        attributes,
        ctypes.c_size_t(len(attributes)),
    )
    _check(result, f"mount_setattr({path})")


def execve(path: bytes, argv: Sequence[bytes], environ: Sequence[bytes]) -> None:
    """execve(2) with the environment as it is given: repeated keys, entries without `=`, bytes that are not UTF-8.

    Returns only by raising OSError.
    """
    args = (ctypes.c_char_p * (len(argv) + 1))(*argv, None)
    env = (ctypes.c_char_p * (len(environ) + 1))(*environ, None)
    _libc.execve(ctypes.c_char_p(path), args, env)
    code = ctypes.get_errno()
    raise OSError(code, f"{os.fsdecode(path)}: {os.strerror(code)}")
