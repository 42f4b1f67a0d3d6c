"""What is known of all processes, kept from one look to the next, so that a look costs what has changed.

Listing a procfs is cheap, and not even needed where no process has begun since, unless one proves to have ended;
reading every process is dear. One is read when it is new, when its number has gone to another process (the kernel gives
each /proc/PID an inode of its own), whenever somebody doubts it, as exec events do, and when it is not what it was.
That is asked, at the price of one readlink for most,

- at every look as long as it is young and no proxy: a runtime's process becomes the container's program by execve(2)
  soon;
- of all others in turn, of some at each look: a program that waits for long before it becomes a proxy is found then.
  With up to `_AGAIN` processes that is every look, with 5,000 it takes some thirty of them.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from dataclasses import replace

from tapper.discovery.births import Births
from tapper.discovery.envoy import Envoy, Process, Refused, Unreadable, what_counts
from tapper.discovery.procfs import Procfs
from tapper.namespaces.identity import NamespaceId
from tapper.targets.addresses import Address

YOUNG_S = 10.0
_AGAIN = 160
"""What may be asked about again at a look: a readlink counts as one."""
_PROXY_COSTS = 5  # of which environ and namespace are read as well


class Census:
    """What is known. Without `births` the processes are listed at every look."""

    def __init__(self, births: Births | None = None) -> None:
        self._births = births
        self._newest: int | None = None
        """What `births` said when they were listed."""
        self._listed: Mapping[str, int] = {}
        self._known: dict[int, Process] = {}
        self._young: OrderedDict[int, float] = OrderedDict()
        """Since when each is known, by time.monotonic; the longest known first."""
        self._all: dict[int, None] = {}
        """Those that were listed."""
        self._round: list[int] = []
        """Who has not had a turn in this round, the next one last."""
        self._doubted: set[int] = set()
        self._attended: Set[int] = frozenset()
        self.notable: dict[int, Process] = {}
        """Those to be judged, of the environment only what the verdict takes."""
        self._verdicts: dict[int, Envoy | Refused] = {}
        """Of `notable`, for the targets of the last look."""
        self._targets: Set[Address] | None = None
        self._changed = False
        """Whether anything is not as it was when the verdicts were asked for last."""
        self.outcome: object = None
        """What was made of those verdicts, kept for whoever made it."""
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

    def attend(self, pids: Set[int]) -> None:
        """Ask about these at every look."""
        self._attended = pids

    def doubt_all(self) -> None:
        """Any may have changed."""
        self._doubted.update(self._known)

    def look(self, procfs: Procfs, read: Callable[[int], Process | None], notable: Callable[[Process], bool]) -> None:
        """List the processes again where one may have begun, and read those of which that is due; `notable` tells of
        one that was read whether it has to be judged. Raises ProcfsError."""
        now = time.monotonic()
        newest = None if self._births is None else self._births.newest()
        unchanged = newest is not None and newest == self._newest
        due = self._doubted & self._known.keys()
        if not unchanged:
            due |= self._list(procfs, now)
            self._newest = newest
        known, is_still = self._known, procfs.is_still
        for pid in self._to_be_asked_about(now):
            process = known.get(pid)
            if process is None or not is_still(process):
                due.add(pid)
        if due:
            found = {pid: read(pid) for pid in sorted(due)}
            if unchanged and None in found.values():  # gone, or what is there is no procfs any longer
                found |= {pid: read(pid) for pid in sorted(self._list(procfs, now))}
            for pid, process in found.items():
                self._learn(pid, process, notable)
        self._doubted.clear()

    def is_as_before(self, targets: Set[Address] | None) -> bool:
        """Whether `verdicts` would say what it said last."""
        return not self._changed and (targets is self._targets or targets == self._targets)

    def verdicts(
        self, targets: Set[Address] | None, judge: Callable[[Process, Set[Address] | None], Envoy | Refused]
    ) -> Iterator[tuple[Process, Envoy | Refused]]:
        """What `judge` says of each that is notable, by ascending pid; it is asked once about what has not changed."""
        if targets != self._targets:
            self._verdicts = {}
        self._targets, self._changed = targets, False
        for pid, process in sorted(self.notable.items()):
            verdict = self._verdicts.get(pid)
            if verdict is None:
                verdict = self._verdicts[pid] = judge(process, targets)
            yield process, verdict

    def _is_proxy(self, pid: int) -> bool:
        """Whether it has become already what it is looked for as. In the middle of execve(2) the new program has no
        environment yet."""
        process = self.notable.get(pid)
        return process is not None and bool(process.environ) and isinstance(process.netns, NamespaceId)

    def _list(self, procfs: Procfs, now: float) -> set[int]:
        """List the processes, and return the new ones. Raises ProcfsError."""
        before, listed = self._listed, procfs.listing()
        if listed == before:
            return set()
        self._listed = listed
        for name in before.keys() - listed.keys():
            pid = int(name)
            self._forget(pid)
            self._all.pop(pid, None)
            self._young.pop(pid, None)
        fresh = [int(name) for name, inode in listed.items() if before.get(name) != inode]
        for pid in fresh:
            self._forget(pid)  # whoever had the number
            self._all[pid] = None
            self._young[pid] = now
            self._young.move_to_end(pid)
        return set(fresh)

    def _to_be_asked_about(self, now: float) -> Collection[int]:
        """Those whose turn it is, the young, and those that are attended to."""
        young = self._young
        while young and now - next(iter(young.values())) > YOUNG_S:
            young.popitem(last=False)
        notable = self.notable
        if len(self._all) + (_PROXY_COSTS - 1) * len(notable) <= _AGAIN:
            return self._all
        chosen = {pid for pid in young if not self._is_proxy(pid)}
        chosen |= self._attended & self._known.keys()
        left = _AGAIN
        while left > 0:
            if not self._round:
                self._round = list(reversed(self._all))
            pid = self._round.pop()
            if pid in self._all:
                chosen.add(pid)
                left -= _PROXY_COSTS if pid in notable else 1
        return chosen

    def _learn(self, pid: int, process: Process | None, notable: Callable[[Process], bool]) -> None:
        """What was read of a process, None where it has vanished."""
        if process is not None and isinstance(process.environ, bytes):
            process = replace(process, environ=what_counts(process.environ))
        if process == self._known.get(pid):
            return
        self._forget(pid)
        if process is None:
            return
        self._changed = True
        exe, netns = process.exe, process.netns
        self._known[pid] = process
        if notable(process):
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
        process = self._known.pop(pid, None)
        if process is None:
            return
        self._changed = True
        self.notable.pop(pid, None)
        self._verdicts.pop(pid, None)
        for kind in (self.unreadable, self.denied, self.readable):
            kind.discard(pid)
        netns = process.netns
        if isinstance(netns, NamespaceId):
            others = self.residents[netns]
            del others[pid]
            if not others:
                del self.residents[netns]
