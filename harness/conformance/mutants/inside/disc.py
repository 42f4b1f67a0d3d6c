"""Broken in finding pods: which process is an Envoy, and whose. How its environment is read: disc_environ."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

from harness.conformance.mutants.model import Fault, Mutant
from harness.conformance.mutants.reasons import ITS_END, TOO_MUCH, UNFOUND
from tapper.discovery import envoy, finders, procfs, scanner
from tapper.discovery.envoy import ProcessSnapshot
from tapper.discovery.finders import Finding, Verdict
from tapper.discovery.procfs import Procfs
from tapper.follow.events import KernelEvents
from tapper.follow.follower import Follower
from tapper.targets.addresses import Address


def _judge_path(is_envoy: Callable[[str], bool]) -> None:
    for module in (envoy, procfs, finders):
        module.is_envoy_path = is_envoy  # type: ignore[attr-defined]


def _judge(verdict: Callable[[ProcessSnapshot, Set[Address] | None], Finding]) -> None:
    scanner.classify = verdict  # type: ignore[assignment,attr-defined]


def _refused(process: ProcessSnapshot) -> Finding:
    return Finding(process.pid, None, None, Verdict.NOT_A_TARGET, "the defect")


# -- which process is an Envoy --------------------------------------------------------------------------------------


def _stat_the_path() -> None:
    whole = finders.is_envoy_path
    _judge_path(lambda exe: whole(exe) and (Path(exe).exists() or exe.endswith(finders.DELETED)))


STATS_THE_PATH = Mutant(
    "stats-the-path",
    "It looks for the executable's path on the node, where a container's path leads nowhere.",
    {"DISC-01": UNFOUND},
    Fault(patches=(_stat_the_path,)),
)


def _take_every_envoy() -> None:
    whole = envoy.classify
    _judge(lambda process, _: whole(process, None))


EVERY_ENVOY = Mutant(
    "every-envoy",
    "It looks into the pods of all Envoys, whatever the targets are.",
    {"DISC-02": TOO_MUCH, "DISC-07": TOO_MUCH},
    Fault(patches=(_take_every_envoy,)),
)

SUFFIX_MATCH = Mutant(
    "suffix-match",
    "It takes every executable for an Envoy whose name ends in envoy.",
    {"DISC-03": TOO_MUCH},
    Fault(patches=(lambda: _judge_path(lambda exe: exe.removesuffix(finders.DELETED).endswith("envoy")),)),
)

CONTAINS_MATCH = Mutant(
    "contains-match",
    "It takes every executable for an Envoy that has envoy somewhere in its path.",
    {"DISC-03": TOO_MUCH},
    Fault(patches=(lambda: _judge_path(lambda exe: "/envoy" in exe),)),
)


def _believe_argv0() -> None:
    snapshot, exe = Procfs.snapshot, Procfs.exe

    def believing(self: Procfs, pid: int, **options: Any) -> ProcessSnapshot | None:
        process = snapshot(self, pid, **(options | {"detail": True}))
        if process is None or not process.argv0.endswith("/envoy"):
            return process
        return ProcessSnapshot(pid, process.argv0, process.environ, process.netns)

    def believed(self: Procfs, pid: int) -> str | None:
        arguments = self.arguments(pid)
        named = arguments[0].decode("latin-1") if arguments else ""
        return named if named.endswith("/envoy") else exe(self, pid)

    Procfs.snapshot = believing  # type: ignore[method-assign]
    Procfs.exe = believed  # type: ignore[method-assign]


ARGV0 = Mutant(
    "argv0",
    "It takes the name that a process gives itself for its executable's.",
    {"DISC-03": TOO_MUCH},
    Fault(patches=(_believe_argv0,)),
)

NOT_DELETED = Mutant(
    "not-deleted",
    "It does not know that the exe link of a removed binary ends in ' (deleted)'.",
    {"DISC-04": UNFOUND},
    Fault(patches=(lambda: _judge_path(lambda exe: exe.endswith("/envoy")),)),
)


def _leader_only() -> None:
    snapshot = Procfs.snapshot

    def of_the_leader(self: Procfs, pid: int, **options: Any) -> ProcessSnapshot | None:
        try:
            (Path(str(self)) / str(pid) / "exe").readlink()
        except FileNotFoundError:
            return ProcessSnapshot(pid, None)
        return snapshot(self, pid, **options)

    Procfs.snapshot = of_the_leader  # type: ignore[method-assign]


LEADER_ONLY = Mutant(
    "leader-only",
    "It looks at the main thread of a process only.",
    {"DISC-13": UNFOUND},
    Fault(patches=(_leader_only,)),
)


# -- troubled processes ---------------------------------------------------------------------------------------------


def _stumble(stumbles: Callable[[ProcessSnapshot | None], bool], fall: Callable[[], None]) -> None:
    whole = Procfs.snapshot

    def stumbling(self: Procfs, pid: int, **options: Any) -> ProcessSnapshot | None:
        process = whole(self, pid, **options)
        if stumbles(process):
            fall()
        return process

    Procfs.snapshot = stumbling  # type: ignore[method-assign]


def _die() -> None:
    raise FileNotFoundError("no such process")


def _without_exe(process: ProcessSnapshot | None) -> bool:
    return process is None or process.exe is None


def _without_environ(process: ProcessSnapshot | None) -> bool:
    return process is not None and isinstance(process.environ, envoy.Unreadable)


DIES_OF_ZOMBIES = Mutant(
    "dies-of-zombies",
    "It does not expect a process to be without an executable.",
    {"DISC-05": ITS_END},
    Fault(patches=(lambda: _stumble(_without_exe, _die),)),
)


def _break_off() -> None:
    whole = Procfs.listing

    def until_trouble(self: Procfs) -> dict[str, int]:
        listed = whole(self)
        pids = sorted(map(int, listed))
        troubled = [pid for pid in pids if _without_environ(self.snapshot(pid, detail=False))]
        return {name: inode for name, inode in listed.items() if not troubled or int(name) < troubled[0]}

    Procfs.listing = until_trouble  # type: ignore[method-assign]


BREAKS_OFF = Mutant(
    "breaks-off",
    "Its look at all processes ends at the first that cannot be read.",
    {"DISC-05": UNFOUND},
    Fault(patches=(_break_off,)),
)


def _pids_of_proc() -> None:
    Procfs.namespace_path = lambda _self, pid: f"/proc/{pid}/ns/net"  # type: ignore[method-assign,assignment]


PIDS_OF_PROC = Mutant(
    "pids-of-proc",
    "It enters namespaces by the process ids of the given procfs, but through its own /proc.",
    {"DISC-06": UNFOUND},
    Fault(patches=(_pids_of_proc,)),
)


# -- addresses ------------------------------------------------------------------------------------------------------


def _compare_text(alike: Callable[[str, str], bool]) -> None:
    whole = envoy.classify

    def by_text(process: ProcessSnapshot, targets: Set[Address] | None) -> Finding:
        value = envoy.instance_ip(process.environ) if isinstance(process.environ, bytes) else None
        text = (value or b"").decode("latin-1")
        if targets is not None and not any(alike(text, str(target)) for target in targets):
            return _refused(process)
        return whole(process, None)

    _judge(by_text)


PREFIX_MATCH = Mutant(
    "prefix-match",
    "It takes 10.0.0.10 for 10.0.0.1, because the one begins with the other.",
    {"DISC-07": TOO_MUCH},
    Fault(patches=(lambda: _compare_text(lambda value, target: value.startswith(target)),)),
)

CONTAINED = Mutant(
    "contained",
    "It looks for an address anywhere in the list of targets, as text.",
    {"DISC-07": TOO_MUCH},
    Fault(patches=(lambda: _compare_text(lambda value, target: bool(value) and value in target),)),
)

TEXT_OF_ADDRESSES = Mutant(
    "text-of-addresses",
    "It compares addresses as text, so that two spellings of one are two.",
    {"DISC-12": UNFOUND},
    Fault(patches=(lambda: _compare_text(lambda value, target: value == target),)),
)


# -- pods without an Envoy ------------------------------------------------------------------------------------------


def _no_linkerd() -> None:
    finders.is_linkerd_path = lambda _: False  # type: ignore[assignment]


NO_LINKERD = Mutant(
    "no-linkerd",
    "It claims to know Linkerd's proxy, and does not.",
    {"DISC-10": UNFOUND},
    Fault(patches=(_no_linkerd,)),
)


# -- when to look ---------------------------------------------------------------------------------------------------


def _look_on_updates_only() -> None:
    whole = Follower.look

    def look(self: Follower) -> bool:
        seen = whole(self)
        self.next_look = math.inf  # until a list of targets comes
        return seen

    Follower.look = look  # type: ignore[method-assign]
    Follower.is_due = lambda self: time.monotonic() >= self.next_look  # type: ignore[method-assign]
    KernelEvents.watch_execs = lambda *_: False  # type: ignore[method-assign]


LOOKS_ON_UPDATES = Mutant(
    "looks-on-updates",
    "It looks for Envoys only when its targets change.",
    {"LIFE-08": "expected requests inside a pod whose Envoy started last"},
    Fault(patches=(_look_on_updates_only,)),
)
