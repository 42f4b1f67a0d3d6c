"""Whether the kernel lets a program look into the libraries of other processes: uprobes, by perf_event_open(2)."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from functools import cache
from pathlib import Path

_TYPE = Path("/sys/bus/event_source/devices/uprobe/type")
_SYSTEM_CALLS = {"x86_64": 298, "aarch64": 241}
_ATTR = struct.Struct("=II QQQQ Q II QQ")
"""struct perf_event_attr as of PERF_ATTR_SIZE_VER1 (linux/perf_event.h). Its last two members are the path of the file
and the offset in it; after the read format, the bit 1 means `disabled`."""
_DISABLED, _PERF_FLAG_FD_CLOEXEC = 1, 8
_REFUSED = frozenset({errno.EPERM, errno.EACCES})


@cache
def refusal() -> str | None:
    """Why the kernel attaches no uprobe for this process, in a sentence without a full stop; None if it does.

    It is tried with a file that no process maps as a program, so that no instructions are changed.
    """
    number = _SYSTEM_CALLS.get(os.uname().machine)
    if number is None:
        return f"the kit does not know how to ask for uprobes on {os.uname().machine}"
    try:
        kind = int(_TYPE.read_text())
    except OSError:
        return "the kernel has no uprobes (CONFIG_UPROBE_EVENTS)"
    path = ctypes.create_string_buffer(os.fsencode(__file__))
    attributes = _ATTR.pack(kind, _ATTR.size, 0, 0, 0, 0, _DISABLED, 0, 0, ctypes.addressof(path), 0)
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(ctypes.c_long(number), attributes, os.getpid(), -1, -1, _PERF_FLAG_FD_CLOEXEC)
    if descriptor >= 0:
        os.close(descriptor)
        return None
    error = ctypes.get_errno()
    if error in _REFUSED:
        return "the kernel attaches uprobes only for root, and not within a user namespace: run the kit as root"
    return f"the kernel refuses uprobes ({os.strerror(error)})"
