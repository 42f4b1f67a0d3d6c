"""What a client may dial: a service's address (in every other scenario), a pod by a headless service, itself, IPv6."""

from __future__ import annotations

import pytest
from scenes import both_legs_once, once, pair

from harness.mesh.workload import Mode
from harness.worlds import talk
from harness.worlds.world import World


def test_the_service_address_is_what_the_client_dialled(world: World) -> None:
    """E2E-24: through a service: the outbound leg names the virtual address, the inbound one the pod's own."""
    meshed = pair(world)
    tap = world.tapper(meshed.pods)
    tap.wait_capturing(*meshed.pods)
    sent = meshed.send(3)
    both_legs_once(tap, meshed, sent)
    dialled = {record["dst"] for record in tap.exchanges(meshed.client, "outbound")}
    entered = {record["dst"] for record in tap.exchanges(meshed.server, "inbound")}
    assert entered == {f"{meshed.server.ip}:8080"}
    (virtual,) = dialled
    assert virtual.endswith(f":{meshed.service.port}")
    assert not virtual.startswith(meshed.server.ip)


def test_a_headless_service(world: World) -> None:
    """E2E-25: the client dials the pod's own address, and it is mTLS and captured all the same."""
    meshed = pair(world)
    direct = world.service("direct", meshed.server, headless=True)
    tap = world.tapper(meshed.pods)
    tap.wait_capturing(*meshed.pods)
    sent = talk.send(world, meshed.client, direct, 5)
    both_legs_once(tap, meshed, sent)


def test_a_pod_that_calls_itself(world: World) -> None:
    """E2E-26: through its service: out and in, once each, all on one lo, with its own TLS between."""
    meshed = pair(world)
    tap = world.tapper([meshed.server])
    tap.wait_capturing(meshed.server)
    sent = talk.send(world, meshed.server, meshed.service, 5)
    tap.wait_seen(sent, meshed.server, "outbound")
    tap.wait_seen(sent, meshed.server, "inbound")
    tap.stop()
    assert tap.seen(meshed.server, "outbound") == tap.seen(meshed.server, "inbound") == once(sent)


@pytest.mark.needs("ipv6")
def test_ipv6(world: World) -> None:
    """E2E-27: the same over IPv6, where the world has it."""
    meshed = pair(world, Mode.STRICT)
    sixth = world.service("sixth", meshed.server, ipv6=True)
    tap = world.tapper(meshed.pods)
    tap.wait_capturing(*meshed.pods)
    sent = talk.send(world, meshed.client, sixth, 5)
    both_legs_once(tap, meshed, sent)
    assert all(record["dst"].startswith("[") for record in tap.exchanges())


@pytest.mark.needs("two_nodes")
def test_two_nodes_each_see_their_leg(world: World) -> None:
    """E2E-28: client and server on two nodes: each node's tapper reports its pod's leg, once, and not the other's."""
    meshed = pair(world, nodes=(0, 1))
    assert meshed.client.node != meshed.server.node
    tap = world.tapper(meshed.pods)
    tap.wait_capturing(*meshed.pods)
    sent = meshed.send(10)
    both_legs_once(tap, meshed, sent)
    for pod, direction in ((meshed.client, "outbound"), (meshed.server, "inbound")):
        here = tap.exchanges(node=pod.node)
        assert {each["direction"] for each in here} == {direction}
        assert len(here) == len(sent)
