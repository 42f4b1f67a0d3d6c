"""Broken in network namespaces."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

from harness.conformance.mutants.model import Mutant
from tapper import following, outlet
from tapper.capture import bpf, namespace
from tapper.capture.namespace import Visit
from tapper.capture.ring import open_ring
from tapper.discovery.procfs import Procfs
from tapper.discovery.scanner import Scan
from tapper.errors import TapperError
from tapper.following import Follower
from tapper.homes import Homes
from tapper.output.records import Place
from tapper.streams import connections
from tapper.streams.connection import Scope

_UNFOUND = "expected a request inside pod"


def _stay_outside() -> None:
    namespace._setns = lambda _: None  # type: ignore[assignment]


OUTSIDE = Mutant(
    "outside",
    "It never enters a namespace, and captures on the node's own lo.",
    {"NETNS-01": _UNFOUND},
    _stay_outside,
)


def _one_source_a_process() -> None:
    whole = Follower._follow
    known: set[int] = set()

    def follow(self: Follower, found: Scan) -> None:
        whole(self, found)
        first = {candidate.netns: candidate.pid for candidate in reversed(found.candidates)}
        for candidate in found.candidates:
            if candidate.pid in known or candidate.pid == first[candidate.netns]:
                continue
            known.add(candidate.pid)
            path = self._procfs.namespace_path(candidate.pid)
            ring = namespace.run_inside(path, candidate.netns, lambda: open_ring("lo", bpf.program()))
            address = str(candidate.claimed)
            place = Place("pod", candidate.netns.inode, "lo", candidate.pid, address, True, "envoy")
            self._add(candidate.pid, ring, place, Scope(address, None))  # type: ignore[arg-type]

    Follower._follow = follow  # type: ignore[method-assign]


BY_PID = Mutant(
    "by-pid",
    "It opens a source for every Envoy process, so that two in one namespace are captured twice.",
    {"NETNS-02": "too often"},
    _one_source_a_process,
)


def _leave_the_thread() -> None:
    def leaving(visit: Visit[Any]) -> Any:
        results: list[Any] = []
        done = threading.Event()

        def enter() -> None:
            try:
                results.append(namespace._enter_and_call(*visit))
            except TapperError as error:  # the defect: nobody brings this thread back
                results.append(error)
                done.set()
                threading.Event().wait()
            done.set()

        threading.Thread(target=enter, daemon=True).start()
        done.wait()
        return results[0]

    def each(visits: Sequence[Visit[Any]], _threads: int) -> list[Any]:
        return [leaving(visit) for visit in visits]

    following.run_inside_each = each  # type: ignore[assignment,attr-defined]


THREAD_LEFT = Mutant(
    "thread-left",
    "Its thread stays in the pod's namespace when the open fails after setns(2).",
    {"NETNS-03": "no thread of the tapper in the namespace"},
    _leave_the_thread,
)


def _keep_descriptors() -> None:
    whole = namespace.run_inside_each

    def pinning(visits: Sequence[Visit[Any]], threads: int) -> list[Any]:
        for visit in visits:
            os.open(visit.path, os.O_RDONLY | os.O_CLOEXEC)
        return whole(visits, threads)

    following.run_inside_each = pinning  # type: ignore[assignment,attr-defined]


PINNED = Mutant(
    "pinned",
    "It never closes the file of a namespace that it has entered.",
    {"NETNS-04": "to be let go"},
    _keep_descriptors,
)


def _remember_pids() -> None:
    whole = Procfs.snapshot
    known: dict[int, Any] = {}

    def remembered(self: Procfs, pid: int, **options: Any) -> Any:
        if pid not in known:
            known[pid] = whole(self, pid, **options)
        return known[pid]

    Procfs.snapshot = remembered  # type: ignore[method-assign]


REMEMBERS_PIDS = Mutant(
    "remembers-pids",
    "What it once knew of a process id it believes of every later process of that number.",
    {"NETNS-05": _UNFOUND},
    _remember_pids,
)


def _one_assembler() -> None:
    whole = connections.Connections
    shared: list[Any] = []

    def of_all(scope: Scope, make: Any, **options: Any) -> Any:
        made = whole(scope, make, **options)
        if scope.pod_ip is None:
            return made
        shared.append(made)
        return shared[0]

    outlet.Connections = of_all  # type: ignore[assignment,attr-defined]


ONE_ASSEMBLER = Mutant(
    "one-assembler",
    "It puts the connections of all pods together by their addresses alone.",
    {"NETNS-06": 'inbound at pod "second"|each of 10 requests'},
    _one_assembler,
)


def _give_up() -> None:
    def end(*_: object) -> None:
        raise SystemExit(1)

    Homes.warn = end  # type: ignore[method-assign,assignment]


GIVES_UP = Mutant(
    "gives-up",
    "It ends when it cannot capture in one of its targets.",
    {"NETNS-07": "a tapper that runs until it is stopped"},
    _give_up,
)


def _with_removed(then: Callable[[str], None]) -> None:
    """Do something with the namespace of each pod that is removed from the targets."""
    whole = Follower.retarget

    def retarget(self: Follower, targets: frozenset[Any]) -> None:
        for netns, followed in self._followed.items():
            if netns in self._sources and not followed.addresses & targets:
                then(self._procfs.namespace_path(min(followed.pids)))
        whole(self, targets)

    Follower.retarget = retarget  # type: ignore[method-assign]


def _keep(path: str) -> None:
    os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _stay(path: str) -> None:
    def enter() -> None:
        namespace._setns(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        inside.set()
        threading.Event().wait()

    inside = threading.Event()
    threading.Thread(target=enter, daemon=True).start()
    inside.wait()


PINS_REMOVED = Mutant(
    "pins-removed",
    "It keeps the file of the namespace of a target that is removed.",
    {"NETNS-08": "to be let go"},
    lambda: _with_removed(_keep),
)
STAYS_WITH_REMOVED = Mutant(
    "stays-with-removed",
    "A thread of it stays in the namespace of a target that is removed.",
    {"NETNS-08": "no thread of the tapper"},
    lambda: _with_removed(_stay),
)
