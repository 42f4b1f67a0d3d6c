"""The pytest plugin: a sandboxed node, pods, a mesh and a tapper as fixtures.

Registered as an entry point, so `pip install 'tapper-harness[harness]'` is all it takes. Every fixture builds on `node`
and is gone when the test ends, with everything in it. A test that passed but left something behind fails: a socket
inside the node that is still open here, a process still in one of its network namespaces, a tapper that did not end
well.

docs/fixtures.md has an example of each.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from harness.errors import Leak, Unsupported, lacks_package

if TYPE_CHECKING:
    from harness.adapters.reference import RunningTapper
    from harness.mesh.fake_envoy import FakeEnvoy
    from harness.mesh.mesh import Mesh
    from harness.sandbox.node import Node
    from harness.sandbox.pod import Pod
    from harness.sandbox.wire import Wire

_node_key: pytest.StashKey[Node] = pytest.StashKey()
_wires_key: pytest.StashKey[list[Wire]] = pytest.StashKey()
_failed_key = pytest.StashKey[bool]()

_LOG_TAIL = 4000
_CASES = "pytest --pyargs harness.conformance"
_CONFORMANCE_TESTS = Path(__file__).parent / "conformance" / "test_conformance.py"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("harness", "tapper-harness: sandboxed nodes for traffic tappers")
    group.addoption(
        "--harness-require",
        action="store_true",
        default=bool(os.environ.get("CI")),
        help="fail, instead of skipping, the tests whose sandbox this machine cannot run (the default where CI is set)",
    )
    group.addoption(
        "--harness-evidence",
        metavar="DIR",
        type=Path,
        help="for every failed test, write the logs of its node's processes and the recordings of its wires there; "
        "for every conformance case, its evidence",
    )
    group.addoption(
        "--adapter",
        metavar="FILE|NAME",
        help=f"the adapter of a tapper to judge: collects the conformance cases ({_CASES} --adapter FILE)",
    )
    group.addoption(
        "--patience", type=float, default=1.0, metavar="X", help="multiply the time limits of conformance cases by this"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Judge the tapper that --adapter names. Without one, asking for the conformance cases is a usage error."""
    name = config.getoption("--adapter")
    if name is None:
        if any(re.search(r"\bharness[./]conformance\b", argument) for argument in config.args):
            raise pytest.UsageError(f"which tapper is to be judged? {_CASES} --adapter FILE")
        return
    try:
        from harness.adapters.contract import AdapterError  # noqa: PLC0415 - only a session that judges pays for it
        from harness.commands.arguments import adapter, patience  # noqa: PLC0415
        from harness.conformance.pytest_face import FACE, Face  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise pytest.UsageError(str(lacks_package(error))) from None
    try:
        face = Face(adapter(name), patience(str(config.getoption("--patience"))))
    except (AdapterError, argparse.ArgumentTypeError) as error:
        raise pytest.UsageError(str(error)) from None
    config.pluginmanager.register(face, FACE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The conformance cases are tests of a tapper: without one, a run that comes by them leaves them out."""
    return True if collection_path == _CONFORMANCE_TESTS and config.getoption("--adapter") is None else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the logs of a failed test's node to its report, while the node still lives."""
    report = yield
    node = item.stash.get(_node_key, None)
    if report.when == "call" and report.failed:
        item.stash[_failed_key] = True
        if node is not None:
            logs = node.logs()
            report.sections += [(f"log of {name}", text[-_LOG_TAIL:]) for name, text in logs.items() if text.strip()]
            directory = item.config.getoption("--harness-evidence")
            if directory is not None:
                _write_evidence(directory / re.sub(r"[^\w.-]+", "_", item.nodeid), item, logs)
    return report


def _write_evidence(directory: Path, item: pytest.Item, logs: dict[str, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in logs.items():
        (directory / f"{name}.log").write_text(text)
    wires: list[Wire] = item.stash[_wires_key]
    for number, wire in enumerate(wires):
        wire.save(directory / f"wire-{number}-{wire.name}.pcap")


@pytest.fixture
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    """A fresh, private node: its own processes, mounts and networks. See `harness.sandbox.node.Node`."""
    try:
        from harness.sandbox.node import Node  # noqa: PLC0415 - a test run without sandboxes shall not pay for them
    except ModuleNotFoundError as error:
        _refuse(request.config, str(lacks_package(error)))
    try:
        world = Node()
    except Unsupported as error:
        _refuse(request.config, str(error))
    request.node.stash[_node_key] = world
    request.node.stash[_wires_key] = []
    try:
        yield world
    finally:
        gc.collect()  # a socket in a reference cycle is not what is looked for
        held = world.held_sockets()
        world.close()
    if held and not request.node.stash.get(_failed_key, False):
        raise Leak(f"the test left sockets open inside its node, which pins the pods' namespaces: {held}")


@pytest.fixture
def pod(node: Node) -> Callable[[str], Pod]:
    """`pod("name")` makes a connected, empty pod on the test's node."""
    return node.pod


@pytest.fixture
def mesh(node: Node) -> Mesh:
    """A mesh on the test's node: applications, real Envoy sidecars, services. See `harness.mesh.mesh.Mesh`."""
    from harness.mesh.mesh import Mesh  # noqa: PLC0415

    return Mesh(node)


@pytest.fixture
def fake_envoy() -> Callable[..., FakeEnvoy]:
    """`fake_envoy(pod, variant=…)` starts a process that procfs shows as an Envoy, or nearly.

    See `harness.mesh.fake_envoy.start`.
    """
    from harness.mesh import fake_envoy as fakes  # noqa: PLC0415

    return fakes.start


@pytest.fixture
def wire(request: pytest.FixtureRequest, node: Node) -> Iterator[Callable[[Pod], Wire]]:
    """`wire(pod)` records what crosses a pod's veth from then on. See `harness.sandbox.wire.Wire`."""
    from harness.sandbox.wire import Wire  # noqa: PLC0415

    wires: list[Wire] = request.node.stash[_wires_key]

    def start(pod: Pod) -> Wire:
        assert pod.node is node, f"pod {pod.name} is on another node than the test's"
        wires.append(Wire(pod))
        return wires[-1]

    yield start
    for started in wires:
        started.stop()


@pytest.fixture
def tapper(node: Node) -> Iterator[Callable[..., RunningTapper]]:
    """`tapper([pod, …], *options, istio=True)` starts the reference tapper on the node.

    One that still runs when the test ends is stopped and has to exit with 0. See
    `harness.adapters.reference.RunningTapper`.
    """
    from harness.adapters.reference import RunningTapper  # noqa: PLC0415

    started: list[RunningTapper] = []

    def start(*arguments: Any, **options: Any) -> RunningTapper:
        started.append(RunningTapper(node, *arguments, **options))
        return started[-1]

    yield start
    for running in started:
        if running.process.running:
            code = running.stop()
            assert code == 0, f"the tapper ended with {code}:\n{running.read_log()}"


def _refuse(config: pytest.Config, reason: str) -> NoReturn:
    if config.getoption("--harness-require"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
