"""Targets from Kubernetes: a thread for each namespace keeps a list of pods current, and hands it to the tapper's loop.

While the API server is away the targets stay as they were: pods do not stop because nobody can be asked about them.
A watch that ends, or whose connection breaks, goes on where it was; after anything else a fresh list is fetched.
"""

from __future__ import annotations

import math
import os
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tapper.errors import KubernetesError, TapperError, UsageError
from tapper.targets.podlist import Pod, PodList, WatchError
from tapper.targets.pods import Targets, targets_of
from tapper.targets.podsapi import Access, PodsApi, Refused, Selection, Unreachable, Watch

_FIRST_DELAY_S = 0.2
_LONGEST_DELAY_S = 10.0
_START_S = 60.0
"""For the first list and the first watch, whose requests have time limits of their own."""
_SHORT_WATCH_S = 1.0
_LEAVE_S = 1.0
_RBAC = "its account needs a role with the verbs list and watch on pods"


@dataclass(frozen=True, slots=True)
class Query:
    """Which pods are targets."""

    node: str
    namespaces: tuple[str, ...] = ()
    """Empty is the current one."""
    everywhere: bool = False
    labels: str | None = None
    wanted: re.Pattern[str] | None = None
    """To be found in a pod's name."""


def delay_s(failures: int, chance: float) -> float:
    """How long to wait after so many failures in a row: doubled each time, up to 10 s; `chance`, from 0 to 1, spreads
    the tappers of a cluster over the upper half of that."""
    longest = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(failures - 1, 16))
    return longest * (1 + chance) / 2


class KubernetesFeed:
    """A TargetFeed. To enter it lists the pods and begins to watch; raises TapperError if either is refused."""

    next_glance = math.inf

    def __init__(self, access: Access, query: Query, warn: Callable[[str], None]) -> None:
        self._access = access
        self._query = query
        self._warn = warn
        self._changed = threading.Condition()
        self._pods: dict[Selection, frozenset[Pod]] = {}
        """By selection, which a thread replaces as a whole."""
        self._notes: list[str] = []
        self._fresh = True
        self._last: Targets | None = None
        self._noted: set[str] = set()
        self._eventfd = -1
        self._watchers: list[_Watcher] = []

    def __enter__(self) -> Self:
        query = self._query
        api = PodsApi(self._access)
        namespaces: tuple[str | None, ...] = query.namespaces
        if query.everywhere:
            namespaces = (None,)
        elif not namespaces:
            self._warn(f"the pods are those of the namespace {api.namespace}, the current one of {api.source}")
            namespaces = (api.namespace,)
        self._eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        for namespace in dict.fromkeys(namespaces):
            selection = Selection(namespace, query.node, query.labels)
            self._watchers.append(_Watcher(api, selection, PodList(query.wanted), self))
        try:
            for watcher in self._watchers:
                watcher.start()
            for watcher in self._watchers:
                watcher.wait_begun(time.monotonic() + _START_S)
        except BaseException:
            self._leave()
            raise
        if not any(self._pods.values()):
            self._warn(f"no pod of the node {query.node} is a target yet: nothing is captured until one is")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        for watcher in self._watchers:
            watcher.stop()
        with self._changed:
            os.close(self._eventfd)
            self._eventfd = -1

    def fileno(self) -> int | None:
        return self._eventfd

    def news(self) -> Targets | None:
        if not self._fresh:
            return None
        with self._changed:
            self._fresh = False
            try:
                os.eventfd_read(self._eventfd)
            except BlockingIOError:
                pass  # the first call
            pods = frozenset().union(*self._pods.values())
            notes, self._notes = self._notes, []
        for note in notes:
            self._warn(note)
        targets = targets_of((pod.name, pod.addresses) for pod in pods)
        if targets == self._last:
            return None
        self._last = targets
        return targets

    # From the watchers' threads.

    def put(self, selection: Selection, pods: frozenset[Pod], notes: dict[str, str]) -> None:
        """The pods of a selection now, and what there is to say about them."""
        with self._changed:
            fresh = [note for subject, note in notes.items() if subject not in self._noted]
            if self._pods.get(selection) == pods and not fresh:
                return
            self._pods[selection] = pods
            self._noted |= notes.keys()
            self._notes += fresh
            self._wake()

    def say(self, note: str) -> None:
        with self._changed:
            self._notes.append(note)
            self._wake()

    def _wake(self) -> None:
        self._fresh = True
        if self._eventfd >= 0:  # a thread that was not done in time when the run ended
            os.eventfd_write(self._eventfd, 1)


class _Watcher:
    """The list of one selection, and the thread that keeps it current."""

    def __init__(self, api: PodsApi, selection: Selection, pods: PodList, feed: KubernetesFeed) -> None:
        self._api = api
        self._selection = selection
        self._list = pods
        self._feed = feed
        self._begun = threading.Event()
        self._hindrance: TapperError | None = None
        """Why it could not begin."""
        self._stop = threading.Event()
        self._watch: Watch | None = None
        self._failures = 0
        self._said: int | None = None
        """The HTTP status that it has complained about, and not yet taken back; 0 is none."""
        self._thread = threading.Thread(target=self._run, name=f"pods in {selection.place}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait_begun(self, deadline: float) -> None:
        """Raises TapperError where it cannot begin, or has not by the deadline, in time.monotonic's seconds."""
        if not self._begun.wait(max(0.0, deadline - time.monotonic())):
            raise KubernetesError(f"the API server at {self._api.host} does not answer in time")
        if self._hindrance is not None:
            raise self._hindrance

    def stop(self) -> None:
        """End the thread. One that waits for an answer, which only a time limit ends, is left to end with the
        process."""
        self._stop.set()
        watch = self._watch
        if watch is not None:
            watch.interrupt()
        if self._thread.is_alive():
            self._thread.join(_LEAVE_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._turn()
            except TapperError as error:
                self._fail(error)
            except Exception as error:  # a thread that ends would leave the targets as they are for ever, silently
                self._fail(KubernetesError(f"{type(error).__name__}: {error}"))

    def _turn(self) -> None:
        """List where that is needed, and follow one watch to its end."""
        listed = self._list
        try:
            if listed.version is None:
                listed.replace(*self._api.list(self._selection))
                self._feed.put(self._selection, listed.pods, listed.notes)
            assert listed.version is not None
            with self._api.watch(self._selection, listed.version) as watch:
                self._watch = watch
                if not self._stop.is_set():
                    self._follow(watch)
        except ValueError as error:
            raise Unreachable(f"what it sends cannot be read: {error}") from error
        except WatchError as error:
            raise Refused(error.code, str(error)) from None
        finally:
            self._watch = None

    def _follow(self, watch: Watch) -> None:
        began = time.monotonic()
        self._well()
        events = 0
        try:
            for line in watch:
                self._list.apply(line)
                self._feed.put(self._selection, self._list.pods, self._list.notes)
                events += 1
        finally:
            if events or time.monotonic() - began >= _SHORT_WATCH_S:
                self._failures = 0
        if (
            not events and time.monotonic() - began < _SHORT_WATCH_S
        ):  # one that was of no use is not begun again at once
            self._failures += 1
            self._stop.wait(delay_s(self._failures, random.random()))

    def _well(self) -> None:
        if self._said is not None:
            self._said = None
            self._feed.say(f"the API server at {self._api.host} answers again, for {self._selection.place}")
        self._begun.set()

    def _fail(self, error: TapperError) -> None:
        self._list.version = None
        self._failures += 1
        # as a response or as an event: nothing is wrong, the server has forgotten that version, as it may
        gone = isinstance(error, Refused) and error.status == 410
        if not self._begun.is_set() and not gone:
            self._hindrance = self._at_start(error)
            self._stop.set()
            self._begun.set()
            return
        kind = error.status if isinstance(error, Refused) else 0  # away is away, however the kernel puts it
        if not gone and kind != self._said and not self._stop.is_set():
            self._said = kind
            place = self._selection.place
            self._feed.say(f"{self._sentence(error)}; until that is over the targets of {place} stay as they are")
        self._stop.wait(delay_s(self._failures, random.random()))
        if isinstance(error, Refused) and error.status == 401:
            try:
                self._api.log_in_again()
            except KubernetesError as another:
                self._feed.say(str(another))

    def _at_start(self, error: TapperError) -> TapperError:
        if isinstance(error, Refused) and error.status in (400, 422):
            return UsageError(f"the API server does not take the selection of pods: {error} (--selector, --node-name)")
        return KubernetesError(self._sentence(error))

    def _sentence(self, error: TapperError) -> str:
        server = f"the API server at {self._api.host}"
        if isinstance(error, Refused):
            if error.status == 401:
                return f"{server} does not take the credentials (401): {error}"
            if error.status == 403:
                return f"{server} refuses (403): {error}; {_RBAC}"
            return f"{server} refuses to name the pods of {self._selection.place} ({error.status}): {error}"
        return f"the pods cannot be asked of {server}: {error}"
