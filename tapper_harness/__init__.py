"""The pytest plugin: a sandboxed node, pods, a mesh and a tapper as fixtures.

An entry point registers the plugin when the package is installed with its extra `harness`. pytest then loads the plugin
in every project of that environment. The plugin therefore takes no common name: fixtures begin with `harness_`, options
with --harness-, and the package `harness` is imported only when one of them is used. `harness.short_names` has the
fixtures by short names.

Every fixture builds on `harness_node`, and ends with the test, together with everything inside. A test that passed but
left something behind fails: a socket inside the node that is still open here, a process still in one of its network
namespaces, a tapper that did not exit with 0.

docs/fixtures.md has an example of each.
"""

from __future__ import annotations

import argparse
import gc
import re
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tapper_harness import kit, options
from tapper_harness.kit import importing

if TYPE_CHECKING:
    from harness.adapters.reference import RunningTapper
    from harness.mesh.fake_envoy import FakeEnvoy
    from harness.mesh.mesh import Mesh
    from harness.sandbox.node import Node
    from harness.sandbox.pod import Pod
    from harness.sandbox.recorder import PacketRecorder

_node_key: pytest.StashKey[Node] = pytest.StashKey()
_wires_key: pytest.StashKey[list[PacketRecorder]] = pytest.StashKey()
_failed_key = pytest.StashKey[bool]()
_told_key = pytest.StashKey[list[str]]()

_LOG_TAIL = 4000
_CONFORMANCE = kit.FOLDER / "conformance"
_CONFORMANCE_TESTS = _CONFORMANCE / "test_conformance.py"


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add(parser)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, object, object]:
    """Accept our options by their old names, unless another plugin or a conftest.py has options of these names."""
    result = yield
    if options.uses_old_names(args):
        _, unknown = parser.parse_known_and_unknown_args(args)
        early_config.stash[_told_key] = options.replace_old_names(args, unknown)
    return result


def pytest_configure(config: pytest.Config) -> None:
    """Judge the tapper that --harness-adapter names. Without it, the conformance cases are a usage error."""
    for sentence in config.stash.get(_told_key, []):
        # no Python warning: if warnings are errors, that would end the run
        sys.stderr.write(f"tapper-harness: {sentence}\n")
    name = config.getoption("--harness-adapter")
    if name is None:
        if any(_asks_for_cases(argument, config) for argument in config.args):
            raise pytest.UsageError(f"which tapper is to be judged? {options.CASES} --harness-adapter FILE")
        return
    where = kit.namesake()
    if where is not None:
        raise pytest.UsageError(kit.name_taken(where))
    from harness.errors import lacks_package

    try:
        from harness.adapters.contract import AdapterError
        from harness.commands.arguments import adapter, patience
        from harness.conformance.pytest_face import FACE, Face
    except ModuleNotFoundError as error:
        raise pytest.UsageError(str(lacks_package(error))) from None
    try:
        face = Face(adapter(name), patience(str(config.getoption("--harness-patience"))))
    except (AdapterError, argparse.ArgumentTypeError) as error:
        raise pytest.UsageError(str(error)) from None
    config.pluginmanager.register(face, FACE)


def _asks_for_cases(argument: str, config: pytest.Config) -> bool:
    """True if an argument of the command line names the conformance cases of this package, not of another project."""
    place = argument.partition("::")[0]
    if config.getoption("--pyargs") and re.fullmatch(r"harness\.conformance(\.\w+)*", place):
        return kit.namesake() is None
    return Path(config.invocation_params.dir, place).resolve().is_relative_to(_CONFORMANCE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not collect the conformance cases without --harness-adapter."""
    return True if collection_path == _CONFORMANCE_TESTS and config.getoption("--harness-adapter") is None else None


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
    wires: list[PacketRecorder] = item.stash[_wires_key]
    for number, wire in enumerate(wires):
        wire.save(directory / f"wire-{number}-{wire.name}.pcap")


@pytest.fixture
def harness_node(request: pytest.FixtureRequest) -> Iterator[Node]:
    """A fresh, private node: its own processes, mounts and networks. See `harness.sandbox.node.Node`."""
    with importing(request.config):
        from harness.errors import Leak, Unsupported
        from harness.sandbox.node import Node
    try:
        world = Node()
    except Unsupported as error:
        kit.refuse(request.config, str(error))
    request.node.stash[_node_key] = world
    request.node.stash[_wires_key] = []
    try:
        yield world
    finally:
        gc.collect()  # a socket in a reference cycle is no leak
        held = world.held_sockets()
        world.close()
    if held and not request.node.stash.get(_failed_key, False):
        raise Leak(f"the test left sockets open inside its node, which pins the pods' namespaces: {held}")


@pytest.fixture
def harness_pod(harness_node: Node) -> Callable[[str], Pod]:
    """`harness_pod("name")` makes a connected, empty pod on the test's node."""
    return harness_node.pod


@pytest.fixture
def harness_mesh(request: pytest.FixtureRequest, harness_node: Node) -> Mesh:
    """A mesh on the test's node: applications, real Envoy sidecars, services. See `harness.mesh.mesh.Mesh`."""
    with importing(request.config):
        from harness.mesh.mesh import Mesh
    return Mesh(harness_node)


@pytest.fixture
def harness_fake_envoy(request: pytest.FixtureRequest) -> Callable[..., FakeEnvoy]:
    """`harness_fake_envoy(pod, variant=…)` starts a process that procfs shows as an Envoy, or nearly.

    See `harness.mesh.fake_envoy.start`.
    """
    with importing(request.config):
        from harness.mesh import fake_envoy as fakes
    return fakes.start


@pytest.fixture
def harness_wire(request: pytest.FixtureRequest, harness_node: Node) -> Iterator[Callable[[Pod], PacketRecorder]]:
    """`harness_wire(pod)` records what crosses a pod's veth from then on. See `harness.sandbox.recorder`."""
    with importing(request.config):
        from harness.sandbox.recorder import on_link
    wires: list[PacketRecorder] = request.node.stash[_wires_key]

    def start(pod: Pod) -> PacketRecorder:
        assert pod.node is harness_node, f"pod {pod.name} is on another node than the test's"
        wires.append(on_link(pod))
        return wires[-1]

    yield start
    for started in wires:
        started.stop()


@pytest.fixture
def harness_tapper(request: pytest.FixtureRequest, harness_node: Node) -> Iterator[Callable[..., RunningTapper]]:
    """`harness_tapper([pod, …], *options, istio=True)` starts the reference tapper on the node.

    A tapper that still runs when the test ends is stopped, and has to exit with 0. See
    `harness.adapters.reference.RunningTapper`.
    """
    with importing(request.config):
        from harness.adapters.reference import RunningTapper
    started: list[RunningTapper] = []

    def start(*arguments: Any, **settings: Any) -> RunningTapper:
        started.append(RunningTapper(harness_node, *arguments, **settings))
        return started[-1]

    yield start
    for running in started:
        if not running.process.running:
            running.running.stop()  # the tapper ended by itself: stop only the kit's threads
        else:
            code = running.stop()
            assert code == 0, f"the tapper ended with {code}:\n{running.read_log()}"
