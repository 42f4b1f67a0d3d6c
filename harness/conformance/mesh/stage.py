"""`Stage`: a case of the group MESH at work in a world, and the taps that it starts.

The tapper is a process of its adapter in the sandbox, its adapter's DaemonSet in a cluster, or, in tests/e2e, the
reference as fixtures/istio deploys it: the stage gets the function that starts it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.adapters.running import Running
from harness.adapters.targets import Target
from harness.conformance.mesh.tap import MeshTap
from harness.conformance.trial import Trial
from harness.conformance.watched import Watched
from harness.errors import Unsupported
from harness.worlds.model import WorldPod, lacking
from harness.worlds.sandbox import SandboxWorld
from harness.worlds.world import World

Start = Callable[[Sequence[WorldPod]], Running]


class Stage:
    """`patience` scales the kit's time limits: output that comes by the log of a DaemonSet takes longer."""

    def __init__(self, world: World, start: Start, target: Callable[[WorldPod], Target], patience: float) -> None:
        self.world = world
        self.taps: list[Watched[Any]] = []
        self._start, self._target, self._patience = start, target, patience

    def tap(self, *pods: WorldPod) -> MeshTap:
        """Start the tapper with these pods as its targets, and prove by canaries that it captures in each of them."""
        tap = MeshTap(self.world, self._start(pods), self._target, self._patience)
        self.taps.append(tap)
        tap.look(*pods)
        return tap


class SandboxStage(Stage):
    """On a trial's node. Raises Unsupported, with the remedy, if the case needs more than the sandbox has."""

    def __init__(self, trial: Trial, needs: Sequence[str] = ()) -> None:
        missing = lacking(SandboxWorld.capabilities, needs)
        if missing:
            raise Unsupported(f"needs a cluster: --kind or --kubeconfig (it takes {'; and '.join(missing)})")
        world = SandboxWorld(trial.node, frozenset())

        def target(pod: WorldPod) -> Target:
            return trial.target(world.inside(pod))

        super().__init__(world, lambda pods: trial.start([target(pod) for pod in pods]), target, trial.patience)
        self.taps = trial.taps
