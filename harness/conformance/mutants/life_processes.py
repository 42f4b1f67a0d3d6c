"""Broken in a tapper's life, continued: Envoys that come and go, its output, its end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import Any

from harness.conformance.mutants.model import Mutant
from tapper import following
from tapper import signals as tapper_signals
from tapper.discovery import scanner
from tapper.discovery.finders import Candidate
from tapper.discovery.scanner import Scan
from tapper.errors import TapperError
from tapper.following import Follower
from tapper.output.ndjson import Ndjson
from tapper.tap import Tap

_LOST = "too seldom|not at all"
_NEVER_S = 3600.0


# -- Envoys that come and go ----------------------------------------------------------------------------------------


def _open_once() -> None:
    judge, take = Follower._judge, Follower._take
    opened: set[object] = set()

    def once(self: Follower, candidate: Candidate) -> Any:
        return None if candidate.netns in opened else judge(self, candidate)

    def remember(self: Follower, wanted: Any, ring: Any) -> None:
        take(self, wanted, ring)
        if wanted.candidate.netns in self._sources:
            opened.add(wanted.candidate.netns)

    Follower._judge = once  # type: ignore[method-assign]
    Follower._take = remember  # type: ignore[method-assign]


OPENS_ONCE = Mutant(
    "opens-once",
    "A pod that it has let go of, because its Envoy had ended, it never looks into again.",
    {"LIFE-05": "expected requests inside a pod whose Envoy was restarted"},
    _open_once,
)


def _look_on_updates_only() -> None:
    whole = Follower.look

    def look(self: Follower) -> bool:
        seen = whole(self)
        self._early = self.next_look = time.monotonic() + _NEVER_S
        return seen

    Follower.look = look  # type: ignore[method-assign]


LOOKS_ON_UPDATES = Mutant(
    "looks-on-updates",
    "It looks for Envoys only when its targets change.",
    {"LIFE-08": "expected requests inside a pod whose Envoy started last"},
    _look_on_updates_only,
)


def _failed_look_closes_all() -> None:
    whole = scanner.scan

    def or_nothing(*arguments: Any, **options: Any) -> Scan:
        try:
            return whole(*arguments, **options)
        except TapperError:
            return Scan((), (), (), frozenset(), frozenset())

    following.scan = or_nothing  # type: ignore[attr-defined]
    Follower._in_doubt = lambda *_: False  # type: ignore[method-assign]


FAILED_LOOK = Mutant(
    "failed-look",
    "A look that fails ends in no Envoys, and closes every source.",
    {"LIFE-09": _LOST},
    _failed_look_closes_all,
)


def _die_with_the_first() -> None:
    whole, judge = Follower._follow, Follower._judge
    openers: dict[object, int] = {}

    def follow(self: Follower, found: Scan) -> None:
        for netns, pid in openers.items():
            if pid not in found.seen and netns in self._sources:
                self._sources.shut(netns)
        whole(self, found)
        for netns, followed in self._followed.items():
            openers.setdefault(netns, min(followed.pids))

    def reopen_nothing(self: Follower, candidate: Candidate) -> Any:
        return None if candidate.netns in openers else judge(self, candidate)

    Follower._follow = follow  # type: ignore[method-assign]
    Follower._judge = reopen_nothing  # type: ignore[method-assign]


DIES_WITH_THE_FIRST = Mutant(
    "dies-with-the-first",
    "A pod's source ends with the process by which it was found, whoever else is there.",
    {"LIFE-11": f'{_LOST}|a request inside pod "server"'},
    _die_with_the_first,
)


# -- output and end -------------------------------------------------------------------------------------------------


def _chat() -> None:
    whole = Ndjson.hello
    Ndjson.hello = lambda self, *told: "Capturing on lo\n" + whole(self, *told)  # type: ignore[method-assign]


CHATTY = Mutant(
    "chatty",
    "It writes a line for people into its output.",
    {"LIFE-10": "a line that is no record"},
    _chat,
)


def _cut_the_last_line() -> None:
    whole = Ndjson.bye
    Ndjson.bye = lambda self, totals: whole(self, totals)[:-9]  # type: ignore[method-assign]


LAST_LINE_CUT = Mutant(
    "last-line-cut",
    "The end of what it has to say is lost when it is stopped.",
    {"LIFE-10": "the last line has no end"},
    _cut_the_last_line,
)


def _no_drain() -> None:
    Tap._end = lambda _: None  # type: ignore[method-assign,assignment]


NOT_DRAINED = Mutant(
    "not-drained",
    "When it is stopped it does not read what the kernel has already captured.",
    {"LIFE-06": _LOST},
    _no_drain,
)


def _ignore_the_signal() -> None:
    tapper_signals._STOPPING = ()  # type: ignore[assignment]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


IGNORES_STOP = Mutant(
    "ignores-stop",
    "It does not end when it is asked to.",
    {"LIFE-06": "it had to be killed"},
    _ignore_the_signal,
)


def _leave_a_child() -> None:
    subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", "import signal; signal.pause()"],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


LEAVES_A_CHILD = Mutant(
    "leaves-a-child",
    "A process that it has started goes on after its end.",
    {"LIFE-06": "no process left behind"},
    _leave_a_child,
)


def _end_in_error() -> None:
    whole = Tap.run

    def run(self: Tap) -> None:
        whole(self)
        raise TapperError("the defect")

    Tap.run = run  # type: ignore[method-assign]


ENDS_IN_ERROR = Mutant(
    "ends-in-error",
    "It ends with an error when it is stopped.",
    {"LIFE-06": "an end without an error"},
    _end_in_error,
)
