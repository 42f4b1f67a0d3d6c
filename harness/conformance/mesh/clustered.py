"""A case of the group MESH in a cluster with Istio: the tapper is its adapter's DaemonSet."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from harness.adapters.contract import Adapter, Feature, Update
from harness.conformance import report_file
from harness.conformance.mesh.stage import Stage
from harness.conformance.model import Case, Outcome, Result
from harness.conformance.oracle.model import Difference
from harness.conformance.run import carry_out
from harness.conformance.verdict import set_aside
from harness.worlds.cluster import artefacts
from harness.worlds.cluster.adapter_daemonset import AdapterDaemonSet
from harness.worlds.cluster.session import ClusterSession
from harness.worlds.cluster.world import ClusterWorld
from harness.worlds.model import WorldPod, lacking

LIMITS = 4.0
"""Time limits relative to the sandbox: the API server runs the canaries, and output comes by a log."""


class ClusterPerformance(Stage, AbstractContextManager["ClusterPerformance"]):
    """A `harness.conformance.run.Performance` in a namespace of its own."""

    def __init__(self, session: ClusterSession, adapter: Adapter, directory: Path, patience: float) -> None:
        self._session, self._adapter, self._directory = session, adapter, directory
        self._cluster = ClusterWorld(session, session.scenario(), record=True)
        self._started: list[AdapterDaemonSet] = []
        super().__init__(self._cluster, self._begin, self._cluster.target, LIMITS * patience)

    def play(self, case: Case) -> None:
        assert case.scenario is not None
        case.scenario(self)

    def killed(self) -> list[str]:
        return []  # nobody looks: the pods of a cluster are restarted

    def impaired(self) -> str | None:
        return report_file.why_full(self._directory)

    def stop(self) -> None:
        """`save` still collects the logs of what runs; `__exit__` ends it."""

    def differences(self, _tap: object) -> Sequence[Difference]:
        return []  # nothing is recorded on the `lo` of pods in a cluster

    def save(self, result: Result) -> None:
        for tap in self.taps:
            tap.save()
        if result.outcome is not Outcome.PASS:
            artefacts.collect(self._session, self._cluster, self._directory, result.case, result.sentence)

    def __exit__(self, *_: object) -> None:
        for daemonset in self._started:
            daemonset.close()
        self._cluster.close()

    def _begin(self, pods: Sequence[WorldPod]) -> AdapterDaemonSet:
        targets = [self._cluster.target(pod) for pod in pods]
        directory = self._directory / f"tap-{len(self._started) + 1}"
        daemonset = AdapterDaemonSet(self._session, self._cluster.space, self._adapter, targets, directory)
        self._started.append(daemonset)
        return daemonset


def run(case: Case, adapter: Adapter, session: ClusterSession, directory: Path, patience: float = 1.0) -> Result:
    """Run a case of the group MESH in a cluster. Never raises: the result tells whose fault a fault is."""
    aside = set_aside(case, adapter) or _set_aside_in_cluster(case, adapter, session)
    return aside or carry_out(case, directory, lambda: ClusterPerformance(session, adapter, directory, patience))


def _set_aside_in_cluster(case: Case, adapter: Adapter, session: ClusterSession) -> Result | None:
    assert adapter.cluster is not None
    missing = lacking(session.capabilities, case.needs)
    if missing:
        return Result(case.id, Outcome.BLOCKED, f"needs {'; and '.join(missing)}")
    if Feature.TARGETS_DYNAMIC in case.features and adapter.cluster.update is Update.NONE:
        return Result(case.id, Outcome.NOT_CLAIMED, "its targets cannot change in a cluster (cluster.update is none)")
    return None
