"""What only a cluster has: the injector's two ways, and the API server that targets come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scenes import once, pair
from stages import play

from harness.conformance.groups import mesh, mesh_lifetimes

if TYPE_CHECKING:
    from harness.worlds.cluster.world import ClusterWorld


@pytest.mark.needs("native_sidecars")
def test_a_sidecar_as_an_init_container_that_stays(world: ClusterWorld) -> None:
    """E2E-33: Istio's native sidecar, which starts before the application: both legs of each request."""
    play(world, mesh.native_sidecar)
    assert {world.sidecar_is_native(pod) for pod in world.pods if pod.meshed} == {True}


@pytest.mark.needs("container_sidecars")
def test_a_sidecar_as_an_ordinary_container(world: ClusterWorld) -> None:
    """E2E-34: the sidecar beside the application, as before Istio 1.27: both legs of each request."""
    play(world, mesh.container_sidecar)
    assert {world.sidecar_is_native(pod) for pod in world.pods if pod.meshed} == {False}


@pytest.mark.needs("control_plane")
def test_an_api_server_that_starts_again(world: ClusterWorld) -> None:
    """E2E-37: targets by label through the API server, which ends and starts again: nothing is missed meanwhile, and a
    pod that becomes a target afterwards is captured."""
    play(world, mesh_lifetimes.api_server_restarts)


@pytest.mark.needs("kubernetes")
def test_a_deployment_that_is_rolled_out_under_load(world: ClusterWorld) -> None:
    """E2E-38: Kubernetes replaces a Deployment's pods while requests go on."""
    play(world, mesh_lifetimes.deployment_rolls)


@pytest.mark.needs("kubernetes")
def test_targets_by_label_are_followed_by_the_name_of_the_pod(world: ClusterWorld) -> None:
    """E2E-35: a pod becomes a target by its label and ceases to be one by losing it; records name namespace and pod."""
    meshed = pair(world)
    tap = world.tapper([meshed.client])
    tap.wait_capturing(meshed.client)
    early = meshed.send(3)
    tap.wait_seen(early, meshed.client, "outbound")
    tap.retarget([meshed.server])
    tap.wait_capturing(meshed.server)
    tap.wait_for(lambda: not tap.captures(meshed.client), "the end of its capture in the client")
    late = meshed.send(3)
    tap.wait_seen(late, meshed.server, "inbound")
    tap.stop()
    assert tap.seen(meshed.client, "outbound") == once(early)
    assert tap.seen(meshed.server, "inbound") == once(late)
    named = {(record["pod"]["namespace"], record["pod"]["name"]) for record in tap.exchanges_of()}
    assert named == {(world.space, "client"), (world.space, "server")}
