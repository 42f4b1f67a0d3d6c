"""The scenarios that the conformance kit shares, played with the reference tapper as fixtures/istio deploys it."""

from __future__ import annotations

from collections.abc import Sequence

from harness.adapters.reference import ReferenceTapper
from harness.adapters.running import Running
from harness.conformance.mesh.stage import Stage
from harness.conformance.model import Case
from harness.worlds.model import WorldPod
from harness.worlds.world import World

_IN_A_CLUSTER = 4.0
"""Time limits there, relative to the sandbox."""


class ReferenceStage(Stage):
    """`options` are further ones of the tapper's. `tappers` are those that were started."""

    def __init__(self, world: World, *options: str) -> None:
        patience = _IN_A_CLUSTER if world.capabilities.kubernetes else 1.0
        super().__init__(world, self._begin, world.target, patience)
        self._options = options
        self.tappers: list[ReferenceTapper] = []

    def _begin(self, pods: Sequence[WorldPod]) -> Running:
        self.tappers.append(self.world.tapper(pods, *self._options))
        return self.tappers[-1].running


def play(world: World, case: Case, *options: str) -> ReferenceTapper:
    """Play the scenario of a case of the group MESH; the tapper that it started last, which has ended."""
    assert case.scenario is not None
    stage = ReferenceStage(world, *options)
    case.scenario(stage)
    return stage.tappers[-1]
