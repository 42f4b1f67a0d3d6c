"""What is known of all processes, kept from one look to the next, so that a look costs what has changed.

Listing a procfs is cheap, and not even needed where no process has begun since; reading every process is dear. One is
read when it is new, and then

- at every look as long as it is young and no proxy: a runtime's process becomes the container's program by execve(2)
  soon;
- when its number has gone to another process: the kernel gives each /proc/PID an inode of its own;
- whenever somebody doubts it, as exec events do;
- in turn with all others, some at each look: a program that waits for long before it becomes a proxy is found
  then. With up to `_AGAIN` processes that is every look, with 5,000 it takes some thirty of them.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, replace

from tapper.discovery import envoy
from tapper.discovery.envoy import Envoy, Process, Refused, Unreadable
from tapper.discovery.netns import NamespaceId
from tapper.discovery.procfs import Procfs
from tapper.targets.addresses import Address

YOUNG_S = 10.0
_AGAIN = 160
"""What may be read again at a look: a readlink counts as one."""
_PROXY_COSTS = 5  # of which environ and namespace are read as well


@dataclass(slots=True)
class _Known:
    process: Process
    notable: bool


class Census:
    """What is known. `notable` tells, of a process that was read, whether a look has to judge it."""

    def __init__(self) -> None:
        self._listed: Mapping[str, int] = {}
        self._known: dict[int, _Known] = {}
        self._young: OrderedDict[int, float] = OrderedDict()
        """Since when each is known, by time.monotonic; the longest known first."""
        self._order: OrderedDict[int, None] = OrderedDict()
        """Whose turn it is to be read again."""
        self._doubted: set[int] = set()
        self._births: int | None = None
        """What `Procfs.births` said when they were listed."""
        self.notable: dict[int, Process] = {}
        """Those to be judged, of the environment only what the verdict takes."""
        self._verdicts: dict[int, Envoy | Refused] = {}
        """Of `notable`, for the targets of the last look."""
        self._targets: Set[Address] | None = None
        self.residents: dict[NamespaceId, dict[int, str | None]] = {}
        """By network namespace, the exe of each process of which that was read."""
        self.unreadable: set[int] = set()
        """Those whose network namespace could not be read."""
        self.denied: set[int] = set()
        """Those whose exe could not be read."""
        self.readable: set[int] = set()
        """Those whose exe could be read."""

    def seen(self) -> frozenset[int]:
        return frozenset(self._known)

    def doubt(self, pid: int) -> None:
        """It may have changed: read it at the next look."""
        self._doubted.add(pid)

    def doubt_all(self) -> None:
        """Any may have changed."""
        self._doubted.update(self._known)

    def look(self, procfs: Procfs, read: Callable[[int], Process | None], notable: Callable[[Process], bool]) -> None:
        """List the processes again, and read those of which that is due. Raises ProcfsError."""
        now = time.monotonic()
        births = procfs.births()
        unchanged = births is not None and births == self._births
        listed = self._listed if unchanged else procfs.listing()
        self._births = births
        due, self._doubted = self._doubted & self._known.keys(), set()
        if listed != self._listed:
            before, self._listed = self._listed, listed
            for name in before.keys() - listed.keys():
                self._drop(int(name))
            for name in [name for name, inode in listed.items() if before.get(name) != inode]:
                pid = int(name)
                due.add(pid)
                self._order[pid] = None
                self._young[pid] = now
                self._young.move_to_end(pid)
        while self._young and now - next(iter(self._young.values())) > YOUNG_S:
            self._young.popitem(last=False)
        due.update(pid for pid in self._young if not self._is_proxy(pid))
        due |= self._in_turn()
        for pid in sorted(due):
            self._forget(pid)
            process = read(pid)
            if process is not None:
                self._learn(process, notable(process))

    def verdicts(
        self, targets: Set[Address] | None, judge: Callable[[Process, Set[Address] | None], Envoy | Refused]
    ) -> Iterator[tuple[Process, Envoy | Refused]]:
        """What `judge` says of each that is notable, by ascending pid; it is asked once about what has not changed."""
        if targets != self._targets:
            self._verdicts, self._targets = {}, targets
        for pid, process in sorted(self.notable.items()):
            verdict = self._verdicts.get(pid)
            if verdict is None:
                verdict = self._verdicts[pid] = judge(process, targets)
            yield process, verdict

    def _is_proxy(self, pid: int) -> bool:
        """Whether it has become already what it is looked for as."""
        process = self.notable.get(pid)
        return process is not None and isinstance(process.environ, bytes) and isinstance(process.netns, NamespaceId)

    def _in_turn(self) -> set[int]:
        """Those whose turn it is."""
        chosen: set[int] = set()
        left = _AGAIN
        while left > 0 and len(chosen) < len(self._order):
            pid = next(iter(self._order))
            self._order.move_to_end(pid)
            chosen.add(pid)
            known = self._known.get(pid)
            left -= _PROXY_COSTS if known is not None and known.notable else 1
        return chosen

    def _drop(self, pid: int) -> None:
        """It is gone."""
        self._forget(pid)
        self._order.pop(pid, None)
        self._young.pop(pid, None)

    def _learn(self, process: Process, notable: bool) -> None:
        pid, exe, netns = process.pid, process.exe, process.netns
        if isinstance(process.environ, bytes):
            process = replace(process, environ=_what_counts(process.environ))
        self._known[pid] = _Known(process, notable)
        if notable:
            self.notable[pid] = process
        if isinstance(exe, Unreadable):
            self.denied.add(pid)
        elif exe is not None:
            self.readable.add(pid)
        if isinstance(netns, NamespaceId):
            self.residents.setdefault(netns, {})[pid] = exe if isinstance(exe, str) else None
        elif isinstance(netns, Unreadable):
            self.unreadable.add(pid)

    def _forget(self, pid: int) -> None:
        known = self._known.pop(pid, None)
        if known is None:
            return
        self.notable.pop(pid, None)
        self._verdicts.pop(pid, None)
        for kind in (self.unreadable, self.denied, self.readable):
            kind.discard(pid)
        netns = known.process.netns
        if isinstance(netns, NamespaceId):
            others = self.residents[netns]
            del others[pid]
            if not others:
                del self.residents[netns]


def _what_counts(environ: bytes) -> bytes:
    """Of an environment, which may be two megabytes, the entry that the verdict is about."""
    value = envoy.instance_ip(environ)
    return b"" if value is None else b"INSTANCE_IP=" + value
