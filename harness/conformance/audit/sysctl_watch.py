"""Prints the path of each file below /proc/sys/net that is written, as it is written; runs in a network namespace.

A program of its own with nothing but the standard library. inotify(7) reports writes through this mount of procfs; a
process in another network namespace writes to other files. The first line is `watching`.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

ROOT = "/proc/sys/net"
_IN_MODIFY = 0x2  # sys/inotify.h
_EVENT = struct.Struct("iIII")  # wd, mask, cookie, length of the name that follows


def main() -> None:
    """Print the paths. Never returns."""
    libc = ctypes.CDLL(None, use_errno=True)
    queue = libc.inotify_init1(0)
    directories = {}
    for directory, _, _ in os.walk(ROOT):
        number = libc.inotify_add_watch(queue, os.fsencode(directory), _IN_MODIFY)
        if number < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"inotify_add_watch({directory}): {os.strerror(code)}")
        directories[number] = directory
    sys.stdout.write("watching\n")
    sys.stdout.flush()
    while True:
        events, at = os.read(queue, 1 << 16), 0
        while at < len(events):
            number, _, _, length = _EVENT.unpack_from(events, at)
            at += _EVENT.size
            name = events[at : at + length].rstrip(b"\0").decode(errors="replace")
            at += length
            sys.stdout.write(f"{directories.get(number, '?')}/{name}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
