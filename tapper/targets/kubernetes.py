"""Targets from Kubernetes: a thread for each namespace keeps a list of pods current and hands it to the tapper's loop.

While the API server is away the targets stay as they were: pods do not stop because their list cannot be fetched. After
a watch that ends, or whose connection breaks, the next watch goes on at the same version. After any other fault a fresh
list is fetched.
"""

from __future__ import annotations

import math
import os
import random
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from typing import Self

from tapper.errors import KubernetesError, TapperError, UsageError
from tapper.runtime.threads import NO_THREAD
from tapper.targets.podlist import ApiError, PodList, TargetPod
from tapper.targets.pods import Targets, targets_of
from tapper.targets.podsapi import Access, Answer, PodsApi

_FIRST_DELAY_S = 0.2
_LONGEST_DELAY_S = 10.0
_START_S = 60.0
"""Time for the first list and the first watch, whose requests have time limits of their own."""
_SHORT_WATCH_S = 1.0
"""A watch that ends sooner, and without an event, was of no use."""
_LEAVE_S = 1.0


@dataclass(frozen=True, slots=True)
class Query:
    """The pods that are targets."""

    node: str
    namespaces: tuple[str | None, ...] = ()
    """Empty for the current namespace; None for all namespaces."""
    labels: str | None = None
    """A label selector."""
    wanted: re.Pattern[str] | None = None
    """Searched for in a pod's name."""


def delay_s(failures: int, chance: float) -> float:
    """Seconds to wait after this number of failures in a row: doubled each time, up to 10. `chance`, from 0 to 1,
    spreads the tappers of a cluster over the upper half of that time."""
    longest = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(failures - 1, 16))
    return longest * (1 + chance) / 2


class KubernetesFeed:
    """A TargetFeed. To enter it lists the pods and begins to watch; raises TapperError if either is refused."""

    next_glance = math.inf

    def __init__(self, access: Access, query: Query, warn: Callable[[str], None]) -> None:
        self._access = access
        self._query = query
        self._warn = warn
        self._watchers: list[_Watcher] = []
        self._last: Targets | None = None
        # What the watchers' threads hand over, under the lock. `eventfd` is readable while `fresh` is set.
        self._lock = threading.Lock()
        self._eventfd = -1
        self._fresh = True
        self._pods: dict[str | None, frozenset[TargetPod]] = {}
        """By namespace; None for all namespaces."""
        self._notes: list[str] = []
        self._noted: set[str] = set()
        """The subjects of notes that were passed on."""

    def __enter__(self) -> Self:
        query = self._query
        api = PodsApi(self._access, query.node, query.labels)
        namespaces = query.namespaces
        if not namespaces:
            self._warn(f"the pods are those of the namespace {api.namespace}, the current one of {api.source}")
            namespaces = (api.namespace,)
        self._eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        for namespace in dict.fromkeys(namespaces):
            self._watchers.append(_Watcher(api, namespace, PodList(query.wanted), self))
        try:
            for watcher in self._watchers:
                watcher.start()
            deadline = time.monotonic() + _START_S
            for watcher in self._watchers:
                watcher.wait_begun(deadline)
        except BaseException:
            self.__exit__()
            raise
        if not any(self._pods.values()):
            self._warn(f"no pod of the node {query.node} is a target yet: nothing is captured until one is")
        return self

    def __exit__(self, *_: object) -> None:
        for watcher in self._watchers:
            watcher.stop()
        with self._lock:
            os.close(self._eventfd)
            self._eventfd = -1

    def fileno(self) -> int | None:
        return self._eventfd

    def news(self) -> Targets | None:
        if not self._fresh:
            return None
        with self._lock:
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

    # The watchers' threads call the rest.

    def put(self, namespace: str | None, listed: PodList) -> None:
        """Replace the pods of a namespace, and tell a person the notes about new subjects."""
        pods = listed.pods
        with self._lock:
            fresh = [note for subject, note in listed.notes.items() if subject not in self._noted]
            if self._pods.get(namespace) == pods and not fresh:
                return
            self._pods[namespace] = pods
            self._noted |= listed.notes.keys()
            self._wake(fresh)

    def say(self, note: str) -> None:
        """Tell a person."""
        with self._lock:
            self._wake([note])

    def _wake(self, notes: list[str]) -> None:
        self._notes += notes
        self._fresh = True
        if self._eventfd >= 0:  # it is closed where a thread goes on after the run's end
            os.eventfd_write(self._eventfd, 1)


class _Watcher:
    """The list of one namespace, or of all, and the thread that keeps it current."""

    def __init__(self, api: PodsApi, namespace: str | None, listed: PodList, feed: KubernetesFeed) -> None:
        self._api = api
        self._namespace = namespace
        self._place = "all namespaces" if namespace is None else f"the namespace {namespace}"
        self._list = listed
        self._feed = feed
        self._begun: Future[None] = Future()
        """Has the TapperError where it cannot begin."""
        self._stop = threading.Event()
        self._watch: Answer | None = None
        self._failures = 0
        """In a row."""
        self._told: int | None = None
        """The status of the failure that was reported and has not ended; 0 where no answer came."""
        self._thread = threading.Thread(target=self._run, name=f"pods in {self._place}", daemon=True)

    def start(self) -> None:
        """Raises TapperError if no thread can be started."""
        try:
            self._thread.start()
        except RuntimeError:
            raise TapperError(f"cannot follow the pods of {self._place}: {NO_THREAD}") from None

    def wait_begun(self, deadline: float) -> None:
        """Raises TapperError where it cannot begin, or has not by the deadline, in time.monotonic's seconds."""
        try:
            self._begun.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise KubernetesError(
                f"the API server at {self._api.host} does not answer within {_START_S:.0f} s (--kubeconfig, --context)"
            ) from None

    def stop(self) -> None:
        """End the thread. A thread that waits for an answer, which has a time limit, is left to the process's end."""
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
            except ApiError as error:
                self._fail(error)
            except ValueError as error:
                self._fail(ApiError(0, f"its answer cannot be read: {error}"))
            except Exception as error:  # without the thread the targets would silently stay as they are
                self._fail(ApiError(0, f"{type(error).__name__}: {error}"))

    def _turn(self) -> None:
        """List the pods unless a watch can go on, and follow one watch to its end. Raises ApiError and ValueError."""
        # 1. The list.
        listed = self._list
        if listed.version is None:
            listed.replace(*self._api.list(self._namespace))
            self._feed.put(self._namespace, listed)
        assert listed.version is not None
        # 2. The watch. A failure before it tells a person so; from here on the server answers.
        with closing(self._api.watch(self._namespace, listed.version)) as watch:
            self._watch = watch
            if self._told is not None:
                self._told = None
                self._feed.say(f"the API server at {self._api.host} answers again, for {self._place}")
            if not self._begun.done():
                self._begun.set_result(None)
            began = time.monotonic()
            events = 0
            try:
                for line in watch.lines() if not self._stop.is_set() else ():
                    listed.apply(line)
                    self._feed.put(self._namespace, listed)
                    events += 1
            finally:
                self._watch = None
                if events or time.monotonic() - began >= _SHORT_WATCH_S:
                    self._failures = 0
        # 3. A watch of no use is not begun again at once.
        if not events and time.monotonic() - began < _SHORT_WATCH_S:
            self._wait_after_failure()

    def _fail(self, error: ApiError) -> None:
        self._list.version = None
        gone = error.status == 410  # no fault: the server has forgotten that version
        if not self._begun.done() and not gone:
            self._stop.set()
            self._begun.set_exception(self._at_start(error))
            return
        if not gone and error.status != self._told and not self._stop.is_set():
            self._told = error.status
            self._feed.say(f"{self._sentence(error)}; until that is over the targets of {self._place} stay as they are")
        self._wait_after_failure()
        if error.status == 401:
            try:
                self._api.log_in()
            except KubernetesError as another:
                self._feed.say(str(another))

    def _wait_after_failure(self) -> None:
        self._failures += 1
        self._stop.wait(delay_s(self._failures, random.random()))

    def _at_start(self, error: ApiError) -> TapperError:
        if error.status in (400, 422):
            return UsageError(f"the API server does not take the selection of pods: {error} (--selector, --node-name)")
        return KubernetesError(self._sentence(error))

    def _sentence(self, error: ApiError) -> str:
        server = f"the API server at {self._api.host}"
        if error.status == 0:
            return f"cannot ask {server} for pods: {error}"
        if error.status == 401:
            return f"{server} does not take the credentials (401): {error}"
        if error.status == 403:
            return f"{server} refuses (403): {error}; its account needs a role with the verbs list and watch on pods"
        return f"{server} refuses to name the pods of {self._place} ({error.status}): {error}"
