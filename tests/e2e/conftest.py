"""The world that a scenario runs in: this machine's sandbox, unless a cluster is asked for (docs/e2e.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from manifests import FOLDER, container, of_kind, render

from harness.worlds.sandbox import SandboxWorld
from harness.worlds.world import NEEDS, World, lacking

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.sandbox.node import Node
    from harness.sandbox.pod import Pod
    from harness.sandbox.wire import Wire


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("e2e", "tapper-harness: scenarios, in the sandbox or on Kubernetes with Istio")
    group.addoption(
        "--churn-minutes",
        type=float,
        default=0.05,
        metavar="M",
        help="how long pods come and go in the scenario of churn (default: %(default)s; 30 for the whole of it)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"needs(*what): what a scenario's world has to have: {', '.join(NEEDS)}")


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """The scenario's own world. A scenario that needs more than it has is skipped, with what it needs."""
    needs = [word for marker in request.node.iter_markers("needs") for word in marker.args]
    yield from _in_sandbox(request, needs)


def _in_sandbox(request: pytest.FixtureRequest, needs: list[str]) -> Iterator[World]:
    _require(lacking(SandboxWorld.CAPABILITIES, needs))
    node: Node = request.getfixturevalue("node")
    record: Callable[[Pod], Wire] = request.getfixturevalue("wire")
    world = SandboxWorld(node, granted(), record)
    try:
        yield world
    finally:
        world.close()


def _require(missing: list[str]) -> None:
    if missing:
        pytest.skip(f"needs {'; and '.join(missing)}")


def granted() -> frozenset[str]:
    """The capabilities that the DaemonSet's manifest gives to the tapper."""
    rights = container(of_kind(render(FOLDER / "tapper"), "DaemonSet"))["securityContext"]
    return frozenset(rights["capabilities"]["add"])
