"""Scans of all processes: which of them lead to a target's network namespace, and which could not be read.

What a scan could not read matters as much as what it found: a source is closed because its Envoy is known to be gone,
never because a scan failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from tapper.discovery.envoy import ProcessSnapshot, Unreadable, classify
from tapper.discovery.finders import Candidate, Finder, Finding, Verdict
from tapper.discovery.process_cache import ProcessCache
from tapper.discovery.procfs import Procfs
from tapper.discovery.roles import linkerd_pod
from tapper.errors import MissingCapabilityError
from tapper.namespaces.identity import NamespaceId
from tapper.namespaces.privileges import Capability, advice, why_unreadable
from tapper.targets.addresses import Address

_EXEC_S = 1.0
"""For how long an empty environment of a new proxy may mean that its execve(2) is not complete."""


@dataclass(frozen=True, slots=True)
class Scan:
    """The result of one scan."""

    candidates: tuple[Candidate, ...]
    """The processes in namespaces that may be a target's, by the finders that were asked for. By `netns` it is one
    process a namespace, that of the lowest pid."""
    envoys: tuple[Finding, ...]
    """The Envoys of targets, by ascending pid."""
    refused: tuple[Finding, ...]
    """The other processes; without detail only those that have an Envoy's path or could not be read."""
    pids: frozenset[int]
    """Every process there was."""
    unreadable: frozenset[int]
    """Processes of which something that the verdict needs could not be read."""
    residents: Mapping[NamespaceId, Sequence[tuple[int, str | None]]] = field(default_factory=dict)
    """By `netns` only: the pid and exe of each process in a namespace, by ascending pid."""
    errors: frozenset[int] = frozenset()
    """The error numbers with which processes could not be read."""


def unexamined(scan: Scan) -> str:
    """A sentence about the processes that could not be read."""
    count = len(scan.unreadable)
    processes = "1 process" if count == 1 else f"{count} processes"
    return f"{processes} could not be examined: an Envoy among them is not seen {why_unreadable(scan.errors)}"


def made_unreadable(scan: Scan) -> str | None:
    """A sentence about the first process that has made its environment unreadable; None without such a process."""
    for process in scan.refused:
        if process.hostile:
            return f"process {process.pid} ({process.exe}) is not taken for an Envoy of a target: {process.reason}"
    return None


class Scanner:
    """Scans one procfs again and again, by the same finders; or once with `detail`, when every process is read whole
    and is in the result."""

    def __init__(self, procfs: Procfs, finders: Set[Finder], *, detail: bool = False) -> None:
        self._procfs = procfs
        self._finders = finders
        self._detail = detail
        self.cache = ProcessCache(procfs.listing, self._read)
        self._last: Scan | None = None
        self._targets: Set[Address] | None = None
        self.execve_under_way = False
        """Whether the last scan found a new proxy without an environment: the next one should come soon."""

    def scan(self, targets: Set[Address] | None) -> Scan:
        """The processes as they are now; None makes a target of every address. Where no process and no target has
        changed, the last Scan itself is returned. Raises ProcfsError, and MissingCapabilityError where no other process
        can be read."""
        changed = targets is not self._targets and targets != self._targets  # a comparison of long lists takes time
        if self.cache.refresh() or changed:
            self._last = None
        new = () if self._detail else self.cache.newer_than(_EXEC_S)  # to the only scan with detail, all are new
        starting = {process.pid for process in new if process.environ == b""}
        self.execve_under_way = bool(starting)
        scan = self._last or self._judge(targets, starting)
        self._last, self._targets = None if starting else scan, targets
        return scan

    def _read(self, pid: int) -> ProcessSnapshot | None:
        namespaces = Finder.NETNS in self._finders
        return self._procfs.snapshot(pid, detail=self._detail, proxy=self._is_proxy, namespaces=namespaces)

    def _is_proxy(self, exe: str) -> bool:
        return any(finder.finds(exe) for finder in self._finders if finder is not Finder.NETNS)

    def _judge(self, targets: Set[Address] | None, starting: Set[int]) -> Scan:
        processes, finders = self.cache.processes, self._finders
        candidates: list[Candidate] = []
        envoys: list[Finding] = []
        refused: list[Finding] = []
        unreadable: set[int] = set()
        errors: set[int] = set()
        denied: set[int | None] = set()
        # 1. Judge the processes of which something was read that can make a proxy, or could not be read: a few of them.
        judged = [pid for pid, process in processes.items() if self._detail or process.is_notable()]
        for pid in sorted(judged):
            process = processes[pid]
            exe, environ, netns = process.exe, process.environ, process.netns
            errors |= {part.errno for part in (exe, environ, netns) if isinstance(part, Unreadable)}
            if isinstance(exe, Unreadable):
                denied.add(pid)
            if isinstance(netns, Unreadable):
                unreadable.add(pid)
            linkerd = Finder.LINKERD in finders and isinstance(exe, str) and Finder.LINKERD.finds(exe)
            if linkerd and isinstance(netns, NamespaceId) and pid not in starting:
                pod = linkerd_pod(environ) if isinstance(environ, bytes) else None
                candidates.append(Candidate(pid, netns, Finder.LINKERD, pod=pod))
            finding = classify(process, targets)
            if finding.verdict is Verdict.ENVOY:
                envoys.append(finding)
                if Finder.ENVOY in finders and finding.netns is not None:
                    candidates.append(Candidate(pid, finding.netns, Finder.ENVOY, finding.address))
            elif self._detail or finding.verdict is not Verdict.OTHER:
                refused.append(finding)
            if finding.verdict is Verdict.UNREADABLE:
                unreadable.add(pid)
        # 2. Without the right to read processes, no other one was read.
        if denied:
            own = self._procfs.own_pid()
            if denied != {own} and not any(isinstance(processes[pid].exe, str) for pid in processes if pid != own):
                raise MissingCapabilityError(
                    f"no process but this one can be examined: {advice(Capability.SYS_PTRACE)}"
                )
        # 3. Group the processes by their namespaces.
        residents: dict[NamespaceId, list[tuple[int, str | None]]] = {}
        for pid, process in sorted(processes.items()) if Finder.NETNS in finders else ():
            if isinstance(process.netns, NamespaceId):
                resident = pid, process.exe if isinstance(process.exe, str) else None
                residents.setdefault(process.netns, []).append(resident)
        candidates += [Candidate(group[0][0], netns, Finder.NETNS) for netns, group in residents.items()]
        pids = frozenset(processes)
        return Scan(
            tuple(candidates), tuple(envoys), tuple(refused), pids, frozenset(unreadable), residents, frozenset(errors)
        )
