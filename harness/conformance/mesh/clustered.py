"""The stage of a case that runs in a cluster with Istio: the tapper is its adapter's DaemonSet."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.adapters.contract import Adapter, Feature, Update
from harness.conformance.mesh.stage import Running, Stage
from harness.conformance.model import Case, Outcome, Result
from harness.conformance.run import attempt, broken
from harness.conformance.verdict import set_aside
from harness.errors import InternalError
from harness.worlds.cluster import artefacts
from harness.worlds.cluster.session import ClusterSession
from harness.worlds.cluster.under_test import ClusterUnderTest
from harness.worlds.cluster.world import ClusterWorld
from harness.worlds.world import WorldPod, lacking

LIMITS = 4.0
"""How much longer than in the sandbox things may take: canaries are run by the API server, output comes by a log."""


class ClusterStage(Stage):
    """In one scenario's namespace."""

    def __init__(self, world: ClusterWorld, session: ClusterSession, adapter: Adapter, directory: Path, limits: float):
        super().__init__(world, adapter, limits)
        self._session = session
        self._space = world.space
        self._directory = directory
        self.started: list[ClusterUnderTest] = []

    def _start(self, targets: Sequence[WorldPod]) -> Running:
        directory = self._directory / f"tap-{len(self.started) + 1}"
        made = ClusterUnderTest(self._session, self._space, self.adapter, targets, directory)
        self.started.append(made)
        return made


def run(case: Case, adapter: Adapter, session: ClusterSession, directory: Path, patience: float = 1.0) -> Result:
    """Run a case of the group MESH in a cluster. Never raises for what the tapper, the cluster or the kit did wrong."""
    aside = set_aside(case, adapter) or _set_aside_in_cluster(case, adapter, session)
    if aside is not None:
        return aside
    scenario = case.scenario
    assert scenario is not None
    directory.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    world: ClusterWorld | None = None
    stage: ClusterStage | None = None
    try:
        world = ClusterWorld(session, session.scenario(), record=True)
        stage = made = ClusterStage(world, session, adapter, directory, LIMITS * patience)

        def play() -> None:
            scenario(made)
            if not any(each.checks for each in made.started):
                raise InternalError(f"{case.id} ended without having looked at anything")

        result = attempt(case, directory, play)
        for each in stage.started:
            each.save()
        result = replace(result, notes=tuple(dict.fromkeys(note for each in stage.started for note in each.notes())))
        if result.outcome is not Outcome.PASS:
            artefacts.collect(session, world, directory, case.id, result.sentence)
    except Exception as error:
        result = broken(case, directory, error)
    finally:
        for each in stage.started if stage is not None else ():
            each.close()
        if world is not None:
            world.close()
    return replace(result, seconds=time.monotonic() - started, evidence=directory.name)


def _set_aside_in_cluster(case: Case, adapter: Adapter, session: ClusterSession) -> Result | None:
    assert adapter.cluster is not None
    missing = lacking(session.capabilities, case.needs)
    if missing:
        return Result(case.id, Outcome.BLOCKED, f"needs {'; and '.join(missing)}")
    if Feature.TARGETS_DYNAMIC in case.features and adapter.cluster.update is Update.NONE:
        return Result(case.id, Outcome.NOT_CLAIMED, "its targets cannot change in a cluster (cluster.update is none)")
    return None
