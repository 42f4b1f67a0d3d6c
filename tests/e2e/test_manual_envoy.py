"""The edge case: an Envoy started by hand with a target's INSTANCE_IP (docs/limits.md)."""

from __future__ import annotations

from scenes import once, pair
from stages import play

from harness.conformance.groups import mesh_lifetimes
from harness.worlds import talk
from harness.worlds.model import APP_PORT, WorldService
from harness.worlds.world import World

ITSELF = WorldService("itself", "127.0.0.1", APP_PORT)
"""A pod's own application, past any service."""


def test_in_another_pod_it_is_captured_as_documented(world: World) -> None:
    """E2E-11: in a pod nobody asked for. Its own traffic is reported under the target's address, with a warning."""
    meshed = pair(world)
    outsider = world.pod("outsider")
    tap = world.tapper(meshed.pods)
    tap.wait_capturing(*meshed.pods)
    before = talk.send(world, outsider, ITSELF, 5, prefix="/before")
    canary = meshed.send(3)
    tap.wait_seen(canary, meshed.server, "inbound")
    world.manual_envoy(outsider, claims=meshed.server)
    tap.wait_for(lambda: [each for each in tap.sources() if each["verified"] is False], "the unverified source")
    after = talk.send(world, outsider, ITSELF, 5, prefix="/after")
    tap.wait_seen(after, meshed.server)
    tap.stop()
    seen = tap.seen(meshed.server)
    assert not set(once(before)) & seen.keys()
    assert {target: seen[target] for target in once(after)} == once(after)
    assert tap.said(meshed.server.ip, "INSTANCE_IP")


def test_with_verify_it_is_refused_with_its_reason(world: World) -> None:
    """E2E-12: the same with --verify: nothing of it is reported, and why is said."""
    tap = play(world, mesh_lifetimes.envoy_by_hand, "--verify")
    assert tap.said("not captured (--verify)")


def test_on_the_node_it_is_captured_as_documented(world: World) -> None:
    """E2E-13: on the node. Its namespace is the node's, so what is captured there is reported as the target's."""
    meshed = pair(world)
    tap = world.tapper(meshed.pods)
    tap.wait_capturing(*meshed.pods)
    world.manual_envoy(None, claims=meshed.server)
    tap.wait_for(lambda: [each for each in tap.sources() if each["verified"] is False], "the unverified source")
    sent = meshed.send(5)
    tap.wait_seen(sent, meshed.server, "inbound")
    tap.stop()
    seen = tap.seen(meshed.server, "inbound")  # and what else crosses the node's own lo: a kubelet's streams, say
    assert {target: seen[target] for target in once(sent)} == once(sent)
