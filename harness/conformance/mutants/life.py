"""Broken in a tapper's life: its beginning, other targets, Envoys that come and go, its end."""

from __future__ import annotations

import os
import threading
from typing import Any

from harness.conformance.mutants.model import Mutant
from tapper import following
from tapper.discovery import scanner
from tapper.discovery.scanner import Scan
from tapper.following import Follower
from tapper.output.ndjson import Ndjson
from tapper.tap import Tap
from tapper.targets.addresses import Address
from tapper.targets.file import TargetsFile
from tapper.targets.pods import Targets

_UNFOUND = "expected requests inside a pod"
_LOST = "too seldom|not at all"


def _declare_first() -> None:
    whole, declare = Tap._begin_following, Tap._say_ready

    def begin(self: Tap) -> None:
        declare(self)
        threading.Event().wait(0.5)  # what it does before it captures takes its time
        whole(self)

    Tap._begin_following = begin  # type: ignore[method-assign]
    Tap._say_ready = lambda _: None  # type: ignore[method-assign,assignment]


READY_TOO_EARLY = Mutant(
    "ready-too-early",
    "It says that it is ready when it begins to look for its targets.",
    {"LIFE-01": _LOST},
    _declare_first,
)


# -- targets --------------------------------------------------------------------------------------------------------


def _add_nothing() -> None:
    whole = Follower.retarget
    Follower.retarget = lambda self, targets: whole(self, targets & self._targets)  # type: ignore[method-assign]


ADDS_NOTHING = Mutant(
    "adds-nothing",
    "Targets that are added while it runs are not looked for.",
    {"LIFE-02": _UNFOUND},
    _add_nothing,
)


def _remove_nothing() -> None:
    whole = Follower.retarget

    def only_more(self: Follower, targets: frozenset[Address]) -> None:
        whole(self, targets | self._targets if targets else targets)

    Follower.retarget = only_more  # type: ignore[method-assign]


REMOVES_NOTHING = Mutant(
    "removes-nothing",
    "It never lets go of a target that is removed.",
    {"LIFE-03": 'expected silence about pod "removed"'},
    _remove_nothing,
)


def _ignore_empty() -> None:
    whole = TargetsFile.read
    last: list[Targets] = []

    def unless_empty(self: TargetsFile) -> Targets:
        read = whole(self)
        if read.addresses or not last:
            last[:] = [read]
        return last[0]

    TargetsFile.read = unless_empty  # type: ignore[method-assign]
    Ndjson.ack = lambda *_: ""  # type: ignore[method-assign]


EMPTY_IGNORED = Mutant(
    "empty-ignored",
    "It takes an empty list of targets for none at all, and stays with the one of before.",
    {"LIFE-04": 'expected silence about pod "former"'},
    _ignore_empty,
)


def _empty_is_all() -> None:
    whole = scanner.scan

    def of_all(procfs: Any, targets: Any, **options: Any) -> Scan:
        return whole(procfs, targets or None, **options)

    following.scan = of_all  # type: ignore[attr-defined]


EMPTY_IS_ALL = Mutant(
    "empty-is-all",
    "It takes an empty list of targets for everybody.",
    {"LIFE-04": 'expected silence about pod "former"', "LIFE-13": "expected nothing of anybody"},
    _empty_is_all,
)


def _begin_anew() -> None:
    whole = Follower.retarget

    def anew(self: Follower, targets: frozenset[Address]) -> None:
        whole(self, frozenset())
        whole(self, targets)

    Follower.retarget = anew  # type: ignore[method-assign]


BEGINS_ANEW = Mutant(
    "begins-anew",
    "At every update it closes all that is open, and opens it again.",
    {"LIFE-12": "each of 60 requests"},
    _begin_anew,
)


def _leak_files() -> None:
    whole = TargetsFile.read

    def leaking(self: TargetsFile) -> Targets:
        os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        return whole(self)

    TargetsFile.read = leaking  # type: ignore[method-assign]


LEAKS_FILES = Mutant(
    "leaks-files",
    "It opens the list of targets at every update, and never closes it.",
    {"LIFE-07": "about as many descriptors"},
    _leak_files,
)


def _leak_threads() -> None:
    whole = Follower.retarget

    def leaking(self: Follower, targets: frozenset[Address]) -> None:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        whole(self, targets)

    Follower.retarget = leaking  # type: ignore[method-assign]


LEAKS_THREADS = Mutant(
    "leaks-threads",
    "It starts a thread at every update that never ends.",
    {"LIFE-07": "about as many descriptors"},
    _leak_threads,
)
