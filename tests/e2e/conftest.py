"""The world that a scenario runs in: this machine's sandbox, unless a cluster is asked for (docs/e2e.md)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import clusters
import pytest
from manifests import FOLDER, container, of_kind, render

from harness.errors import HarnessError, Unsupported
from harness.worlds.model import NEEDS, lacking
from harness.worlds.sandbox import SandboxWorld
from harness.worlds.world import World

if TYPE_CHECKING:
    from harness.sandbox.node import Node
    from harness.sandbox.pod import Pod
    from harness.sandbox.recorder import PacketRecorder
    from harness.worlds.cluster.session import ClusterSession

_failed_key = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    group = parser.getgroup("e2e", "tapper-harness: scenarios, in the sandbox or on Kubernetes with Istio")
    group.addoption(
        "--churn-minutes",
        type=float,
        default=0.05,
        metavar="M",
        help="how long pods come and go in the scenario of churn (default: %(default)s; 30 for the whole of it)",
    )
    clusters.add_options(group, pytest_kind=pluginmanager.hasplugin("pytest-kind"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"needs(*what): what a scenario's world has to have: {', '.join(NEEDS)}")
    if clusters.is_asked_for(config):
        if config.getoption("numprocesses", None):  # of pytest-xdist
            raise pytest.UsageError("a cluster is made once for a run: run its scenarios without -n")
        # the client of Kubernetes leaves the sockets of its exec sessions to the garbage collector
        config.addinivalue_line("filterwarnings", "ignore::ResourceWarning")
        config.addinivalue_line("filterwarnings", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and item.stash.get(_failed_key, None) is None:
        item.stash[_failed_key] = report.longreprtext
    return report


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[ClusterSession | None]:
    """The cluster that the run was given, or makes; None for the sandbox. What it makes goes with it, and is said."""
    if not clusters.is_asked_for(request.config):
        yield None
        return
    with contextlib.ExitStack() as rest:
        try:
            session = rest.enter_context(clusters.opened(request.config))
        except HarnessError as error:  # no scenario can be run: the whole run ends, with this one sentence
            pytest.exit(str(error), returncode=3 if isinstance(error, Unsupported) else 4)  # as tapper-harness ends
        yield session
        try:
            rest.close()
        except HarnessError as error:
            pytest.fail(str(error), pytrace=False)


@pytest.fixture
def world(request: pytest.FixtureRequest, cluster: ClusterSession | None) -> Iterator[World]:
    """The scenario's own world. A scenario that needs more than it has is skipped, with what it needs."""
    needs = [word for marker in request.node.iter_markers("needs") for word in marker.args]
    if cluster is None:
        yield from _in_sandbox(request, needs)
    else:
        yield from _in_cluster(request, needs, cluster)


def _in_sandbox(request: pytest.FixtureRequest, needs: list[str]) -> Iterator[World]:
    _require(lacking(SandboxWorld.capabilities, needs))
    node: Node = request.getfixturevalue("harness_node")
    record: Callable[[Pod], PacketRecorder] = request.getfixturevalue("harness_wire")
    world = SandboxWorld(node, granted(), record)
    try:
        yield world
    finally:
        world.close()


def _in_cluster(request: pytest.FixtureRequest, needs: list[str], session: ClusterSession) -> Iterator[World]:
    from harness.worlds.cluster import artefacts
    from harness.worlds.cluster.world import ClusterWorld

    _require(lacking(session.capabilities, needs))
    directory: Path | None = request.config.getoption("--e2e-artifacts")
    world = ClusterWorld(session, session.scenario(), record=directory is not None)
    try:
        yield world
        failure = request.node.stash.get(_failed_key, None)
        if failure is not None and directory is not None:
            artefacts.collect(session, world, directory, request.node.nodeid, failure)
    finally:
        world.close()


def _require(missing: list[str]) -> None:
    if missing:
        pytest.skip(f"needs {'; and '.join(missing)}")


def granted() -> frozenset[str]:
    """The capabilities that the DaemonSet's manifest gives to the tapper."""
    rights = container(of_kind(render(FOLDER / "tapper"), "DaemonSet"))["securityContext"]
    return frozenset(rights["capabilities"]["add"])
