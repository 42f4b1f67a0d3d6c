"""What a client may dial: a service's address (in every other scenario), a pod by a headless service, itself, IPv6."""

from __future__ import annotations

import pytest
from scenes import both_legs_once, pair
from stages import play

from harness.conformance.groups import mesh
from harness.worlds.world import World


def test_the_service_address_is_what_the_client_dialled(world: World) -> None:
    """E2E-24: through a service: the outbound leg names the virtual address, the inbound one the pod's own."""
    meshed = pair(world)
    tap = world.tapper(meshed.pods)
    tap.wait_capturing(*meshed.pods)
    sent = meshed.send(3)
    both_legs_once(tap, meshed, sent)
    dialled = {record["dst"] for record in tap.exchanges_of(meshed.client, "outbound")}
    entered = {record["dst"] for record in tap.exchanges_of(meshed.server, "inbound")}
    assert entered == {f"{meshed.server.ip}:8080"}
    (virtual,) = dialled
    assert virtual.endswith(f":{meshed.service.port}")
    assert not virtual.startswith(meshed.server.ip)


def test_a_headless_service(world: World) -> None:
    """E2E-25: the client dials the pod's own address, and it is mTLS and captured all the same."""
    play(world, mesh.headless)


def test_a_pod_that_calls_itself(world: World) -> None:
    """E2E-26: through its service: out and in, once each, all on one lo, with its own TLS between."""
    play(world, mesh.calls_itself)


@pytest.mark.needs("ipv6")
def test_ipv6(world: World) -> None:
    """E2E-27: the same over IPv6, where the world has it."""
    tap = play(world, mesh.ipv6)
    assert all(record["dst"].startswith("[") for record in tap.exchanges_of() if "/orders/" in record["target"])


@pytest.mark.needs("two_nodes")
def test_two_nodes_each_see_their_leg(world: World) -> None:
    """E2E-28: client and server on two nodes: each node's tapper reports its pod's leg, once, and not the other's."""
    tap = play(world, mesh.two_nodes)
    by_node = {
        node: {record["direction"] for record in tap.exchanges_of(node=node) if "/orders/" in record["target"]}
        for node in {name for name, _ in tap.runs()}
    }
    assert sorted(map(sorted, filter(None, by_node.values()))) == [["inbound"], ["outbound"]]
