"""A tapper's process and all its descendants. Any of them may end at any moment, which is no error here."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import psutil

from harness.sandbox.process import Process


class Family:
    """Looks for the processes at every question: a tapper may start and end children as it likes."""

    def __init__(self, head: Process) -> None:
        self._head = head

    def members(self) -> list[psutil.Process]:
        """The head and its descendants now; none once the head has ended."""
        pid = self._head.host_pid
        if pid <= 0:
            return []
        try:
            head = psutil.Process(pid)
            return [head, *head.children(recursive=True)]
        except psutil.Error:
            return []

    def memory(self) -> int:
        """Resident memory, in bytes."""
        return self._sum(lambda process: int(process.memory_info().rss))

    def handles(self) -> tuple[int, int]:
        """The number of descriptors and the number of threads."""
        return self._sum(psutil.Process.num_fds), self._sum(psutil.Process.num_threads)

    def threads_in(self, netns_inode: int) -> int:
        """The number of its threads in a network namespace."""
        wanted, found = f"net:[{netns_inode}]", 0
        for process in self.members():
            for link in Path(f"/proc/{process.pid}/task").glob("*/ns/net"):
                try:
                    found += str(link.readlink()) == wanted
                except OSError:
                    continue  # the thread has ended meanwhile
        return found

    def send_signal(self, signum: int) -> None:
        """Send the signal to each of them."""
        for process in self.members():
            try:
                process.send_signal(signum)
            except psutil.Error:
                continue

    def kill(self) -> None:
        """SIGKILL each of them, the head first, so that it starts no others."""
        others = self.members()
        self._head.send_signal(signal.SIGKILL)
        for process in others:
            try:
                process.kill()
            except psutil.Error:
                continue

    def _sum(self, count: Callable[[psutil.Process], int]) -> int:
        total = 0
        for process in self.members():
            try:
                total += count(process)
            except psutil.Error:
                continue  # gone meanwhile, or another user's
        return total
