"""The kernel's records of processes that begin another program with execve(2), or map certain files, by
perf_event_open(2).

A software event that counts nothing makes the kernel write a record whenever the name of a process changes; a flag of
the record says that execve(2) changed it. On request there is a record as well of each file that is mapped with the
right to execute it, with its name. There are records of all processes in the reader's PID namespace and the
namespaces below it, in whatever network namespace, with the process ids of the reader. This needs CAP_PERFMON or
CAP_SYS_ADMIN in the initial user namespace, or kernel.perf_event_paranoid of 0 or less.

Each processor has an event and a ring of its own, which also gets records of forks and ends: the kernel cannot leave
them out. Processors that come online later have none: the repeated scans find what begins there. The record is written
during execve(2): the exe link is the new program's, but the environment may be empty for another moment.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import re
import select
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

PERF_RECORD_MMAP, PERF_RECORD_LOST, PERF_RECORD_COMM = 1, 2, 3  # linux/perf_event.h
PERF_RECORD_MISC_COMM_EXEC = 1 << 13
RECORD = struct.Struct("=IHH")
"""struct perf_event_header: type, flags, size with the header. Process and thread id follow in a PERF_RECORD_COMM and
in a PERF_RECORD_MMAP; in the latter then address, length and offset, and the file's name."""
_MAPPED_NAME = RECORD.size + 32

_SYSTEM_CALLS = {"x86_64": 298, "aarch64": 241, "riscv64": 241, "ppc64le": 319, "s390x": 331}
_PERF_TYPE_SOFTWARE, _PERF_COUNT_SW_DUMMY, _PERF_FLAG_FD_CLOEXEC = 1, 9, 8
_MMAP, _COMM, _WATERMARK, _COMM_EXEC = 1 << 8, 1 << 9, 1 << 14, 1 << 24
_ATTR = struct.Struct("=IIQQQQQII8x")  # struct perf_event_attr as of PERF_ATTR_SIZE_VER0
_HEAD, _TAIL = 1024 // 8, 1032 // 8  # of struct perf_event_mmap_page: data_head, data_tail
_RING = max(1 << 17, mmap.PAGESIZE)
"""Bytes of a ring: four thousand records."""
_FULL = _RING - 256
"""With so many unread bytes a ring may have lacked the room for another record."""
WAKE_UPS, PAUSE_S = 10, 0.1
"""After so many wake-ups in a second, the records wait for the end of a pause: a node that starts thousands of threads
must not keep the tapper busy, too."""

_libc = ctypes.CDLL(None, use_errno=True)


class ExecEvents:
    """An open subscription; made by `subscribe`."""

    def __init__(self, processors: Sequence[int], mapped: re.Pattern[bytes] | None = None) -> None:
        self._rings: list[_Ring] = []
        self._mapped = mapped
        self._poll = select.epoll()
        self._timer = _check(_libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_CLOEXEC | os.O_NONBLOCK))
        self._poll.register(self._timer, select.EPOLLIN)
        self._wake_ups, self._second, self._paused = 0, 0.0, False
        try:
            for processor in processors:
                self._rings.append(_Ring(processor, mappings=mapped is not None))
                self._poll.register(self._rings[-1].descriptor, select.EPOLLIN)
        except OSError:
            self.close()
            raise

    def fileno(self) -> int:
        """For polling: readable when there are records."""
        return self._poll.fileno()

    def pids(self) -> set[int] | None:
        """The processes that began a program or mapped a file since the last call; None where some are not known, since
        a ring was full."""
        programs = self.programs()
        return None if programs is None else set(programs)

    def programs(self) -> dict[int, str] | None:
        """The same with the path of the program, in the process's root; empty where it is not known: without `mapped`
        it never is."""
        self._limit_wake_ups(time.monotonic())
        programs: dict[int, str] = {}
        complete = True
        for ring in self._rings:
            records = ring.read()
            complete &= len(records) < _FULL
            for news in parse(records, self._mapped):
                if news is None:
                    complete = False
                elif news[0] != 0:  # the process is outside of the reader's PID namespace
                    programs[news[0]] = news[1] or programs.get(news[0], "")
        return programs if complete else None

    def close(self) -> None:
        for ring in self._rings:
            ring.close()
        self._poll.close()
        os.close(self._timer)

    def _limit_wake_ups(self, now: float) -> None:
        if now >= self._second:
            self._second, self._wake_ups = now + 1, 0
        self._wake_ups += 1
        pause = self._wake_ups > WAKE_UPS
        if pause != self._paused:
            for ring in self._rings:
                self._poll.modify(ring.descriptor, 0 if pause else select.EPOLLIN)
        if pause or self._paused:  # struct itimerspec; zero disarms the timer
            _check(_libc.timerfd_settime(self._timer, 0, struct.pack("@4l", 0, 0, 0, int(PAUSE_S * 1e9) * pause), None))
        self._paused = pause


def subscribe(mapped: re.Pattern[bytes] | None = None) -> ExecEvents:
    """Begin to record; also mappings of files whose name, without the folder, has a match of `mapped`. Raises OSError,
    EACCES or EPERM where the right is missing."""
    return ExecEvents(list(_processors(Path("/sys/devices/system/cpu/online").read_text(encoding="ascii"))), mapped)


def parse(records: bytes, mapped: re.Pattern[bytes] | None = None) -> Iterator[tuple[int, str] | None]:
    """The process (its thread group) of each exec, and of each mapping of a file whose name has a match of `mapped`;
    with the path of the program if it is mapped, and else with an empty one. None where records are missing or cannot
    be read."""
    at, end = 0, len(records)
    began: set[int] = set()  # the first file that such a process maps is its program
    while at + RECORD.size <= end:
        kind, flags, size = RECORD.unpack_from(records, at)
        following = at + size
        if size < RECORD.size or following > end:
            break
        pid = int.from_bytes(records[at + RECORD.size : at + RECORD.size + 4], sys.byteorder)
        if kind == PERF_RECORD_COMM:
            if flags & PERF_RECORD_MISC_COMM_EXEC:
                began.add(pid)
                yield pid, ""
        elif kind == PERF_RECORD_MMAP and mapped is not None:
            path = records[at + _MAPPED_NAME : following].partition(b"\0")[0]
            if pid in began:
                began.discard(pid)
                yield pid, os.fsdecode(path)
            elif mapped.search(path.rpartition(b"/")[2]):
                yield pid, ""
        elif kind == PERF_RECORD_LOST:
            yield None
        at = following
    if at != end:
        yield None


class _Ring:
    """The records of one processor."""

    def __init__(self, processor: int, *, mappings: bool) -> None:
        number = _SYSTEM_CALLS.get(os.uname().machine)
        if number is None:
            raise OSError(errno.ENOSYS, f"perf_event_open(2) has no known number on {os.uname().machine}")
        flags = _COMM | _WATERMARK | _COMM_EXEC | _MMAP * mappings
        attributes = _ATTR.pack(_PERF_TYPE_SOFTWARE, _ATTR.size, _PERF_COUNT_SW_DUMMY, 0, 0, 0, flags, 1, 0)
        self.descriptor = _check(_libc.syscall(number, attributes, -1, processor, -1, _PERF_FLAG_FD_CLOEXEC))
        try:
            self._memory = mmap.mmap(self.descriptor, mmap.PAGESIZE + _RING)
        except OSError:
            os.close(self.descriptor)
            raise
        self._words = memoryview(self._memory).cast("Q")  # whose items are read and written at once

    def read(self) -> bytes:
        """The records since the last call."""
        head, tail = self._words[_HEAD], self._words[_TAIL]
        start, size = mmap.PAGESIZE + tail % _RING, head - tail
        records = self._memory[start : min(start + size, mmap.PAGESIZE + _RING)]
        records += self._memory[mmap.PAGESIZE : mmap.PAGESIZE + size - len(records)]
        self._words[_TAIL] = head  # the kernel may use their room
        return records

    def close(self) -> None:
        self._words.release()
        self._memory.close()
        os.close(self.descriptor)


def _processors(online: str) -> Iterator[int]:
    """`0-2,5` -> 0, 1, 2, 5."""
    for part in online.strip().split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _check(result: int) -> int:
    """The result of a function of the C library. Raises OSError with its error number."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
