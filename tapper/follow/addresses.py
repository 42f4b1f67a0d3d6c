"""The addresses of network namespaces, cached.

Entering a namespace costs more than anything else that is done about a process, so most namespaces are asked seldom. A
new one is asked at each scan: a container runtime may give a pod its addresses after its first process.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from tapper.discovery.procfs import Procfs
from tapper.errors import TapperError
from tapper.namespaces.contents import own_addresses
from tapper.namespaces.enter import Visit, run_inside, run_inside_each
from tapper.namespaces.identity import NamespaceId
from tapper.targets.addresses import Address

NEW_S = 10.0
"""For how long a namespace is asked at each scan."""
ANSWER_HOLDS_S = 5.0
"""For how long the answer of an older namespace that has addresses is believed."""
_MOST_AGAIN = 500
"""How many namespaces a scan asks again, the longest unasked ones first: this takes about 0.1 s."""


@dataclass(frozen=True, slots=True)
class _Answer:
    first: float
    """When the namespace was asked for the first time; like `last` by time.monotonic."""
    last: float
    addresses: frozenset[Address]


class NamespaceAddresses:
    """The cache. A namespace is entered by way of the processes in it."""

    def __init__(self, procfs: Procfs) -> None:
        self._procfs = procfs
        self._answers: dict[NamespaceId, _Answer] = {}
        self._scan = -math.inf
        """When the last scan began, by time.monotonic."""

    def known(self, netns: NamespaceId) -> frozenset[Address] | None:
        """The last answer; None without one."""
        answer = self._answers.get(netns)
        return None if answer is None else answer.addresses

    def invalidate(self) -> None:
        """Believe no answer any longer: addresses have changed somewhere."""
        self._answers = {netns: _Answer(a.first, -math.inf, a.addresses) for netns, a in self._answers.items()}

    def forget_others(self, namespaces: Set[NamespaceId]) -> None:
        """Forget all but these."""
        self._answers = {netns: answer for netns, answer in self._answers.items() if netns in namespaces}

    def refresh(self, groups: Mapping[NamespaceId, Iterable[int]]) -> dict[NamespaceId, TapperError]:
        """Begin a scan: ask each of these namespaces whose answer is not believed any longer, by way of its processes.
        Return the error of each that could not be asked; it keeps its answer."""
        self._scan = time.monotonic()
        new = [netns for netns in groups if netns not in self._answers]
        again = [netns for netns in groups if netns in self._answers and not self._holds(self._answers[netns])]
        again.sort(key=lambda netns: self._answers[netns].last)
        chosen = [*new, *again[:_MOST_AGAIN]]
        visits = [Visit(map(self._procfs.namespace_path, groups[netns]), netns, own_addresses) for netns in chosen]
        errors: dict[NamespaceId, TapperError] = {}
        results: list[frozenset[Address] | TapperError] = run_inside_each(visits)
        for netns, result in zip(chosen, results, strict=True):
            if isinstance(result, TapperError):
                errors[netns] = result
            else:
                self._learn(netns, result)
        return errors

    def ask(self, netns: NamespaceId, pid: int) -> frozenset[Address]:
        """The addresses of the process's namespace, asked since the last scan began. Raises TapperError, and
        NamespaceGoneError where the process has ended."""
        before = self._answers.get(netns)
        if before is not None and before.last >= self._scan:
            return before.addresses
        addresses = run_inside(self._procfs.namespace_path(pid), netns, own_addresses)
        self._learn(netns, addresses)
        return addresses

    def _learn(self, netns: NamespaceId, addresses: frozenset[Address]) -> None:
        now, before = time.monotonic(), self._answers.get(netns)
        self._answers[netns] = _Answer(now if before is None else before.first, now, addresses)

    def _holds(self, answer: _Answer) -> bool:
        settled = answer.addresses and self._scan - answer.first >= NEW_S
        return bool(settled) and self._scan - answer.last < ANSWER_HOLDS_S
