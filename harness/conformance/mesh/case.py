"""`mesh_case`: a case whose function works on a `Stage`, in the sandbox or in a cluster."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

from harness.adapters.contract import Feature
from harness.conformance.mesh.stage import SandboxStage, Stage
from harness.conformance.model import Case, Level, case
from harness.conformance.trial import Trial

Scenario = Callable[[Stage], None]


def mesh_case(
    number: int, level: Level, source: str, *, features: set[Feature] | None = None, needs: tuple[str, ...] = ()
) -> Callable[[Scenario], Case]:
    """Turn a scenario into the case MESH-`number`, which is the number of the same scenario in tests/e2e. `needs` are
    words of `harness.worlds.model.NEEDS`; a run without such a world is `blocked`."""

    def make(scenario: Scenario) -> Case:
        @functools.wraps(scenario)
        def in_sandbox(trial: Trial) -> None:
            scenario(SandboxStage(trial, needs))

        made = case(f"MESH-{number:02}", level, source, features=features or set(), real_envoy=True)(in_sandbox)
        return replace(made, scenario=scenario, needs=needs)

    return make
