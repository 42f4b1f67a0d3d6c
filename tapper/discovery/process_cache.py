"""The processes of a procfs, cached between scans, so that a scan reads only what may have changed.

Listing a procfs is cheap, reading every process is not. A scan lists the processes, and reads

- every new process. The kernel gives each /proc/PID folder an inode of its own, so a process that got the number of
  another one is new;
- every process that `invalidate` was told of, as exec events do;
- every recent process: a container's runtime begins the container's program by execve(2) within seconds;
- of all others a batch, in turn. Among few processes the batch is all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Set

from tapper.discovery.envoy import ProcessSnapshot

RECENT_S = 10.0
"""For how long a process that is new or began a program is read at each scan."""
BATCH = 160
"""How much may be read again in turn at a scan; reading a process that is no proxy counts as one."""
_PROXY = 5
"""What reading a proxy counts as: its environment and namespace are read, too."""


class ProcessCache:
    """The cache. `list_all` returns the process ids, as text, with the inodes of their folders; `read` returns None for
    a process that has ended."""

    def __init__(self, list_all: Callable[[], dict[str, int]], read: Callable[[int], ProcessSnapshot | None]) -> None:
        self._list_all = list_all
        self._read = read
        self.processes: dict[int, ProcessSnapshot] = {}
        self.always_check: Set[int] = frozenset()
        """Processes to read at each scan: nothing else tells that they end."""
        self._inodes: dict[str, int] = {}
        self._recent: dict[int, float] = {}
        """Since when a process is new, by time.monotonic; the oldest first."""
        self._turns: list[int] = []
        """The processes that had no turn in this round, the next one last."""
        self._invalid: set[int] = set()

    def invalidate(self, pids: Iterable[int] | None) -> None:
        """Read these at the next scan, and treat them as recent; None: read all that are known."""
        self._invalid.update(self.processes if pids is None else pids)
        if pids is not None:
            for pid in self.processes.keys() & set(pids):
                self._mark_recent(pid)

    def newer_than(self, seconds: float) -> Iterator[ProcessSnapshot]:
        """The processes that began, or began a program, within so many seconds."""
        oldest = time.monotonic() - seconds
        for pid, since in reversed(self._recent.items()):
            if since < oldest:
                return
            if pid in self.processes:
                yield self.processes[pid]

    def refresh(self) -> bool:
        """Scan. Returns whether any process has changed. Raises what `list_all` raises, and then forgets nothing."""
        # 1. List the processes; forget those that ended.
        listed, before = self._list_all(), self._inodes
        self._inodes = listed
        changed = False
        due: set[int] = set()
        if listed != before:
            for name, inode in before.items():
                if listed.get(name) != inode:
                    changed = True
                    self.processes.pop(int(name), None)
                    self._recent.pop(int(name), None)
            due.update(int(name) for name, inode in listed.items() if before.get(name) != inode)
            for pid in due:
                self._mark_recent(pid)
        # 2. Choose the known ones that are to be read again.
        due |= self._due_again()
        self._invalid.clear()
        # 3. Read.
        for pid in due:
            process = self._read(pid)
            if process != self.processes.get(pid):
                changed = True
                if process is None:
                    self.processes.pop(pid, None)
                else:
                    self.processes[pid] = process
        return changed

    def _due_again(self) -> set[int]:
        oldest = time.monotonic() - RECENT_S
        for pid in [pid for pid, since in self._recent.items() if since <= oldest]:
            del self._recent[pid]
        chosen = {*self._recent, *((self._invalid | self.always_check) & self.processes.keys())}
        cost = turns = 0
        while cost < BATCH and turns < len(self.processes):
            if not self._turns:
                self._turns = list(self.processes)
            process = self.processes.get(self._turns.pop())
            if process is not None:
                chosen.add(process.pid)
                cost += 1 if process.environ is None else _PROXY
                turns += 1
        return chosen

    def _mark_recent(self, pid: int) -> None:
        self._recent.pop(pid, None)
        self._recent[pid] = time.monotonic()
