"""The pytest fixtures by short names, for a project whose own fixtures have other names:

    pytest_plugins = ["harness.short_names"]     in the project's topmost conftest.py

Each is the fixture that has `harness_` before the same name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.adapters.reference import RunningTapper
    from harness.mesh.fake_envoy import FakeEnvoy
    from harness.mesh.mesh import Mesh
    from harness.sandbox.node import Node
    from harness.sandbox.pod import Pod
    from harness.sandbox.recorder import PacketRecorder

pytest_plugins = ["tapper_harness"]  # pytest may have been told not to load it by itself


@pytest.fixture
def node(harness_node: Node) -> Node:
    """See `tapper_harness.harness_node`."""
    return harness_node


@pytest.fixture
def pod(harness_pod: Callable[[str], Pod]) -> Callable[[str], Pod]:
    """See `tapper_harness.harness_pod`."""
    return harness_pod


@pytest.fixture
def mesh(harness_mesh: Mesh) -> Mesh:
    """See `tapper_harness.harness_mesh`."""
    return harness_mesh


@pytest.fixture
def fake_envoy(harness_fake_envoy: Callable[..., FakeEnvoy]) -> Callable[..., FakeEnvoy]:
    """See `tapper_harness.harness_fake_envoy`."""
    return harness_fake_envoy


@pytest.fixture
def wire(harness_wire: Callable[[Pod], PacketRecorder]) -> Callable[[Pod], PacketRecorder]:
    """See `tapper_harness.harness_wire`."""
    return harness_wire


@pytest.fixture
def tapper(harness_tapper: Callable[..., RunningTapper]) -> Callable[..., RunningTapper]:
    """See `tapper_harness.harness_tapper`."""
    return harness_tapper
