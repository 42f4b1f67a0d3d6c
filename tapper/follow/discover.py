"""`tapper discover`: every process that was looked at, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Set

from tapper.discovery.finders import Finder, judge
from tapper.discovery.procfs import Procfs
from tapper.discovery.scanner import scan, unexamined
from tapper.follow.owners import owned_by
from tapper.namespaces.identity import own_namespace
from tapper.output.records import Listed, Owned
from tapper.targets.addresses import Address


def listing(
    procfs: Procfs,
    targets: Set[Address] | None,
    finders: frozenset[Finder],
    told: Callable[[str], None],
    *,
    everything: bool = False,
) -> tuple[list[Listed], Owned]:
    """The processes by ascending pid, and the addresses of their namespaces.

    A process that was found in several ways is there once for each. By `netns` it is one process a namespace. Those
    that are no Envoys are there if something about them suggests one, or with `everything`. `told` gets sentences about
    what could not be looked at. Raises ProcfsError and MissingCapabilityError.
    """
    found = scan(procfs, targets, detail=True, finders=finders)
    others = [candidate for candidate in found.candidates if candidate.found_by is not Finder.ENVOY]
    shown: list[Listed] = []
    if Finder.ENVOY in finders:
        shown += [*found.envoys, *(refused for refused in found.refused if everything or refused.looked_at)]
    places = [(process.pid, process.netns) for process in shown if process.netns is not None]
    owned = owned_by(procfs, [*places, *((each.pid, each.netns) for each in others)], told)
    nodes = {own_namespace(), procfs.netns(1)}
    shown += [
        judge(each, procfs.exe(each.pid), owned.get(each.netns), targets, shared=each.netns in nodes) for each in others
    ]
    if found.unreadable:
        told(unexamined(found))
    return sorted(shown, key=lambda process: process.pid), owned
