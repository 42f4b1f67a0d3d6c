"""The addresses that the network namespaces of some processes have, and how long an answer is believed.

Asking is what costs most of all that is done about a process, so most namespaces are asked seldom. A young one is asked
at every look, since a container runtime may give a pod its addresses after its first process.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass

from tapper.discovery.finders import Candidate
from tapper.discovery.procfs import Procfs
from tapper.errors import MissingCapabilityError, NamespaceGoneError, TapperError
from tapper.namespaces.addresses import own_addresses
from tapper.namespaces.enter import Visit, run_inside, run_inside_each
from tapper.namespaces.identity import NamespaceId
from tapper.targets.addresses import Address


def owned_by(
    procfs: Procfs, processes: Iterable[tuple[int, NamespaceId]], told: Callable[[str], None]
) -> dict[NamespaceId, frozenset[Address]]:
    """Ask each namespace once, by the first of its processes (pid, namespace) that still lives.

    One that cannot be asked is left out, and `told` gets the reason; nothing is asked any more where the right to enter
    namespaces is missing.
    """
    owned: dict[NamespaceId, frozenset[Address]] = {}
    for pid, netns in processes:
        if netns in owned:
            continue
        try:
            owned[netns] = run_inside(procfs.namespace_path(pid), netns, own_addresses)
        except NamespaceGoneError:
            continue  # the process died since it was found: another one may lead there
        except MissingCapabilityError as error:
            told(f"claims of addresses are not checked: {error}")
            break
        except TapperError as error:
            told(f"what process {pid} claims is not checked: {error}")
    return owned


_YOUNG_S = 10.0
_ANSWER_HOLDS_S = 5.0
"""How long an older namespace that has addresses is believed to have no others; `doubt` ends that at once."""
_MOST_AGAIN = 500
"""How many namespaces are asked again in one look, the longest unasked ones first: about 0.1 s."""


@dataclass(frozen=True, slots=True)
class _Answer:
    first: float
    """When the namespace was asked for the first time; like `when` by time.monotonic."""
    when: float
    addresses: frozenset[Address]

    def holds(self, now: float) -> bool:
        return bool(self.addresses) and now - self.first >= _YOUNG_S and now - self.when < _ANSWER_HOLDS_S


class Owners:
    """What is known of namespaces' addresses."""

    def __init__(self, procfs: Procfs) -> None:
        self._procfs = procfs
        self._answers: dict[NamespaceId, _Answer] = {}
        self._fresh: set[NamespaceId] = set()

    def __contains__(self, netns: NamespaceId) -> bool:
        """Whether there is an answer."""
        return netns in self._answers

    def known(self, netns: NamespaceId) -> frozenset[Address]:
        """The last answer; empty where there is none."""
        answer = self._answers.get(netns)
        return frozenset() if answer is None else answer.addresses

    def holds_until(self, netns: NamespaceId) -> float:
        """Until when its last answer is believed, by time.monotonic; the past where the next look is to ask again."""
        answer = self._answers.get(netns)
        if answer is None or not answer.holds(time.monotonic()):
            return -math.inf
        return answer.when + _ANSWER_HOLDS_S

    def refresh(self, candidates: Iterable[Candidate]) -> None:
        """Begin a look: ask those whose last answer does not hold any longer, all on one thread. One that cannot be
        asked stays as it was; `of` tells why."""
        now = time.monotonic()
        chosen: list[Candidate] = []
        again: list[tuple[float, Candidate]] = []
        for candidate in candidates:
            answer = self._answers.get(candidate.netns)
            if answer is None:
                chosen.append(candidate)
            elif not answer.holds(now):
                again.append((answer.when, candidate))
        chosen += [candidate for _, candidate in sorted(again, key=lambda pair: pair[0])[:_MOST_AGAIN]]
        self._fresh = set()
        if not chosen:
            return
        visits = [Visit(self._procfs.namespace_path(each.pid), each.netns, own_addresses) for each in chosen]
        asked: list[frozenset[Address] | TapperError] = run_inside_each(visits)
        for candidate, result in zip(chosen, asked, strict=True):
            if isinstance(result, frozenset):
                self._learn(candidate.netns, result)

    def of(self, candidate: Candidate) -> tuple[frozenset[Address] | None, str]:
        """The addresses, asked in this look; or None and why that is not known, empty where the process is gone."""
        if candidate.netns in self._fresh:
            return self._answers[candidate.netns].addresses, ""
        path = self._procfs.namespace_path(candidate.pid)
        try:
            addresses = run_inside(path, candidate.netns, own_addresses)
        except NamespaceGoneError:
            return None, ""
        except TapperError as error:
            return None, str(error)
        self._learn(candidate.netns, addresses)
        return addresses, ""

    def doubt(self) -> None:
        """Addresses have changed somewhere: no answer holds any longer."""
        before = -math.inf  # monotonic clocks may begin with the machine
        self._answers = {
            netns: _Answer(answer.first, before, answer.addresses) for netns, answer in self._answers.items()
        }

    def keep(self, namespaces: Set[NamespaceId]) -> None:
        """The others are gone."""
        self._answers = {netns: answer for netns, answer in self._answers.items() if netns in namespaces}

    def _learn(self, netns: NamespaceId, addresses: frozenset[Address]) -> None:
        now = time.monotonic()
        before = self._answers.get(netns)
        self._answers[netns] = _Answer(now if before is None else before.first, now, addresses)
        self._fresh.add(netns)
