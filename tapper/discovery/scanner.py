"""One look at all processes: which Envoys there are, and what could not be seen.

What a scan did not see is as important as what it saw: a source is closed because its Envoy is known to be gone, never
because a look failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from tapper.discovery.census import Census
from tapper.discovery.envoy import Envoy, Process, Refused, Verdict, classify
from tapper.discovery.finders import Candidate, Finder
from tapper.discovery.procfs import Procfs
from tapper.errors import MissingCapabilityError
from tapper.namespaces.identity import NamespaceId
from tapper.namespaces.privileges import Capability, advice, why_unreadable
from tapper.targets.addresses import Address


@dataclass(frozen=True, slots=True)
class Scan:
    """What one look found."""

    candidates: tuple[Candidate, ...]
    """The processes in namespaces that may be a target's, of each way only those that were asked for. By `netns` it is
    one process a namespace, that of the lowest pid."""
    envoys: tuple[Envoy, ...]
    """The Envoys of targets, by ascending pid."""
    refused: tuple[Refused, ...]
    """Everything else that was looked at; without detail only what has an Envoy's path or could not be read."""
    seen: frozenset[int]
    """Every process there was."""
    unreadable: frozenset[int]
    """Processes of which something that the verdict needs could not be read."""
    residents: Mapping[NamespaceId, Sequence[tuple[int, str | None]]] = field(default_factory=dict)
    """By `netns` only: the pid and exe of each process in a namespace, by ascending pid."""


def unexamined(found: Scan) -> str:
    """A sentence about what could not be read."""
    count = len(found.unreadable)
    processes = "1 process" if count == 1 else f"{count} processes"
    return f"{processes} could not be examined: an Envoy among them is not seen {why_unreadable()}"


def made_unreadable(found: Scan) -> str | None:
    """A sentence about the first process that has made its environment unreadable; None where there is none."""
    for process in found.refused:
        if process.hostile:
            return f"process {process.pid} ({process.exe}) is not taken for an Envoy of a target: {process.reason}"
    return None


def scan(
    procfs: Procfs,
    targets: Set[Address] | None,
    *,
    detail: bool = False,
    finders: Set[Finder] = frozenset({Finder.ENVOY}),
    census: Census | None = None,
) -> Scan:
    """Look at every process, in the ways of `finders`.

    With a `census`, which is for one procfs and one way of looking, at what has changed since it was last given here;
    where nothing has, the same Scan is returned again. Raises ProcfsError, and MissingCapabilityError where not one
    other can be examined.
    """
    census = Census() if census is None else census
    proxies = finders - {Finder.NETNS}

    def proxy(exe: str) -> bool:
        return any(finder.finds(exe) for finder in proxies)

    def read(pid: int) -> Process | None:
        return procfs.snapshot(pid, detail=detail, proxy=proxy, namespaces=Finder.NETNS in finders)

    def notable(process: Process) -> bool:
        """Whether it is more than one of many; which it is for no other targets either."""
        if detail or (isinstance(process.exe, str) and proxy(process.exe)):
            return True
        verdict = classify(process, None)
        return isinstance(verdict, Envoy) or verdict.verdict is not Verdict.OTHER

    census.look(procfs, read, notable)
    if census.denied and len(census.readable) <= 1:
        own = procfs.own_pid()
        if census.denied - {own} and not census.readable - {own}:
            raise MissingCapabilityError(f"no process but this one can be examined: {advice(Capability.SYS_PTRACE)}")
    if isinstance(census.outcome, Scan) and census.is_as_before(targets):
        return census.outcome
    candidates: list[Candidate] = []
    envoys: list[Envoy] = []
    refused: list[Refused] = []
    unreadable = set(census.unreadable)
    for process, verdict in census.verdicts(targets, classify):
        pid, netns = process.pid, process.netns
        if (
            Finder.LINKERD in finders
            and isinstance(netns, NamespaceId)
            and isinstance(process.exe, str)
            and Finder.LINKERD.finds(process.exe)
        ):
            candidates.append(Candidate(pid, netns, Finder.LINKERD))
        if isinstance(verdict, Envoy):
            envoys.append(verdict)
            if Finder.ENVOY in finders:
                candidates.append(Candidate(pid, verdict.netns, Finder.ENVOY, verdict.instance_ip))
            continue
        if verdict.verdict is Verdict.UNREADABLE:
            unreadable.add(pid)
        if detail or verdict.verdict is not Verdict.OTHER:
            refused.append(verdict)
    residents: dict[NamespaceId, list[tuple[int, str | None]]] = {}
    if Finder.NETNS in finders:
        residents = {netns: sorted(exes.items(), key=_by_pid) for netns, exes in census.residents.items()}
    candidates += [Candidate(group[0][0], netns, Finder.NETNS) for netns, group in residents.items()]
    found = Scan(tuple(candidates), tuple(envoys), tuple(refused), census.seen(), frozenset(unreadable), residents)
    census.outcome = found
    return found


def _by_pid(resident: tuple[int, str | None]) -> int:
    return resident[0]
