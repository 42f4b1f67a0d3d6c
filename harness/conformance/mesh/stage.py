"""What a case of the group MESH works with: a world, and a tapper in it, whoever starts it and how.

`Stage` is implemented for the kit's own tapper under test in the sandbox (`sandboxed`), for an adapter's DaemonSet in a
cluster (`clustered`), and in tests/e2e for the reference as fixtures/istio deploys it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Protocol

from harness.adapters.contract import Adapter
from harness.adapters.observed import ReportedExchange
from harness.conformance.mesh.watched import Watched
from harness.worlds.world import World, WorldPod


class Running(Protocol):
    """A tapper that runs in a world. On several nodes it is several processes, which are asked as one."""

    def sightings(self) -> list[ReportedExchange]:
        """Every exchange that it has reported so far."""

    def mentioned(self) -> set[str]:
        """The kit's markers that are anywhere in its output so far."""

    def everything(self) -> Iterable[bytes]:
        """All that it wrote, its words to people included."""

    def obituary(self) -> str | None:
        """How it ended, if it has ended without being asked to."""

    def last_words(self) -> str:
        """What it said last, to people."""

    def retarget(self, pods: Sequence[WorldPod]) -> None:
        """These pods, and no others, from now on."""

    def stop(self) -> None:
        """Ask it to end, and take what it still has to say. Raises Violation if it had ended by itself."""

    def checked(self) -> None:
        """An expectation is looked at: a case that looks at none proves nothing."""


class Stage(ABC):
    """One case's world and tapper. `limits` scales the kit's time limits: a DaemonSet and its log take their time."""

    def __init__(self, world: World, adapter: Adapter, limits: float) -> None:
        self.world = world
        self.adapter = adapter
        self._limits = limits

    def tap(self, *targets: WorldPod) -> Watched:
        """Start the tapper with these pods as its targets, and prove by canaries that it looks into each of them."""
        watched = Watched(self.world, self._start(targets), self.adapter, self._limits)
        watched.look(*targets)
        return watched

    @abstractmethod
    def _start(self, targets: Sequence[WorldPod]) -> Running: ...
