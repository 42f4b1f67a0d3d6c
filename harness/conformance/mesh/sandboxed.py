"""The stage of a case that runs in the sandbox: real Envoys on one node, and the tapper as the kit runs it anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.adapters.observed import ReportedExchange
from harness.conformance.mesh.stage import Running, Stage
from harness.conformance.tap import Tap
from harness.conformance.trial import Trial
from harness.conformance.verdict import TapperDied
from harness.errors import Unsupported
from harness.worlds.sandbox import SandboxWorld
from harness.worlds.world import WorldPod, lacking


class SandboxStage(Stage):
    """On a trial's node. Raises Unsupported, with what it takes, where the case needs more than the sandbox has."""

    def __init__(self, trial: Trial, needs: Sequence[str] = ()) -> None:
        missing = lacking(SandboxWorld.CAPABILITIES, needs)
        if missing:
            raise Unsupported(f"needs a cluster: --kind or --kubeconfig (it takes {'; and '.join(missing)})")
        self._sandbox = SandboxWorld(trial.node, frozenset())
        super().__init__(self._sandbox, trial.adapter, trial.patience)
        self._trial = trial

    def _start(self, targets: Sequence[WorldPod]) -> Running:
        pods = [self._sandbox.inside(target) for target in targets]
        return _UnderTest(self._trial, self._trial.tap(*pods, look=()), self._sandbox)


class _UnderTest:
    """A `Running`: the kit's tapper under test."""

    def __init__(self, trial: Trial, tap: Tap, world: SandboxWorld) -> None:
        self._trial = trial
        self._tap = tap
        self._world = world

    def sightings(self) -> list[ReportedExchange]:
        self._tap.under_test.output.refresh()
        return self._tap.under_test.output.seen()

    def mentioned(self) -> set[str]:
        self._tap.under_test.output.refresh()
        return self._tap.under_test.output.mentioned()

    def everything(self) -> Iterable[bytes]:
        return [*self._tap.under_test.output.everything(), self._tap.under_test.stderr.since(0)]

    def obituary(self) -> str | None:
        if self._tap.under_test.running:
            return None
        return self._tap.under_test.excess or f"exit code {self._tap.under_test.returncode}: {self.last_words()}"

    def last_words(self) -> str:
        return self._tap.under_test.stderr.last_line()

    def retarget(self, pods: Sequence[WorldPod]) -> None:
        self._tap.retarget(*(self._trial.target(self._world.inside(pod)) for pod in pods))

    def stop(self) -> None:
        died = self.obituary()
        self._tap.end()
        if died is not None:
            raise TapperDied("a tapper that runs until it is stopped", f"its end ({died})")

    def checked(self) -> None:
        self._tap.checks += 1
