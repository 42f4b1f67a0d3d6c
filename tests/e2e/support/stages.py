"""The scenarios that the conformance kit shares, played with the reference tapper as fixtures/istio deploys it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from harness.adapters import contract, shipped
from harness.adapters.observed import MARKER, ReportedExchange
from harness.adapters.records import exchange
from harness.conformance.mesh.stage import Running, Stage
from harness.conformance.model import Case
from harness.worlds.tap import Tap
from harness.worlds.world import World, WorldPod

_IN_A_CLUSTER = 4.0
"""How much longer things may take there."""


class ReferenceStage(Stage):
    """`options` are further ones of the tapper's. `taps` are those that were started."""

    def __init__(self, world: World, *options: str) -> None:
        name = "reference-verify" if "--verify" in options else "reference"
        adapter = contract.load(shipped.names()[name], installed=False)
        super().__init__(world, adapter, _IN_A_CLUSTER if world.capabilities.kubernetes else 1.0)
        self._options = options
        self.taps: list[Tap] = []

    def _start(self, targets: Sequence[WorldPod]) -> Running:
        self.taps.append(self.world.tapper(targets, *self._options))
        return _Reference(self.taps[-1])


class _Reference:
    """A `Running`: what the reference says of itself besides is left aside."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap

    def sightings(self) -> list[ReportedExchange]:
        return [exchange(record) for record in self._tap.of_type("http")]

    def mentioned(self) -> set[str]:
        found = MARKER.findall(json.dumps(self._tap.records_by_node()).encode())
        return {marker.decode() for marker in found}

    def everything(self) -> Iterable[bytes]:
        return [json.dumps(self._tap.records_by_node()).encode(), self._tap.read_log().encode()]

    def obituary(self) -> str | None:
        ended = self._tap.ended()
        return None if ended is None else f"exit code {ended}: {self.last_words()}"

    def last_words(self) -> str:
        said = self._tap.read_log().strip().splitlines()
        return said[-1] if said else ""

    def retarget(self, pods: Sequence[WorldPod]) -> None:
        self._tap.retarget(pods)

    def stop(self) -> None:
        self._tap.stop()

    def checked(self) -> None:
        """A failed check is the test's; that there are some is the kit's to see to."""


def play(world: World, case: Case, *options: str) -> Tap:
    """Play the scenario of a case of the group MESH; the tapper that it started last, which has ended."""
    assert case.scenario is not None
    stage = ReferenceStage(world, *options)
    case.scenario(stage)
    return stage.taps[-1]
