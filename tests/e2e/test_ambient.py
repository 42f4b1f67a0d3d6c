"""Ambient mode: no proxy in the pod, and a ztunnel elsewhere that encrypts for it."""

from __future__ import annotations

import pytest
from scenes import once, pair

from harness.mesh.traffic import nonces
from harness.worlds import talk
from harness.worlds.world import World


@pytest.mark.needs("ambient")
def test_ambient_pods_are_found_by_their_namespaces(world: World) -> None:
    """E2E-36: seen with --discover netns, both legs, though the wire is encrypted; without it, said, and why."""
    pods = pair(world, None)
    direct = world.service("direct", pods.server, headless=True)
    world.ambient(*pods.pods)
    wire = world.wire(pods.server)
    blind = world.tapper(pods.pods)
    unseen = talk.send(world, pods.client, direct, 5)
    blind.wait_for(lambda: blind.said(pods.server.ip, "HBONE", "--discover netns"), "what it cannot see")
    blind.stop()
    assert not set(once(unseen)) & blind.seen().keys()
    tap = world.tapper(pods.pods, "--discover", "netns")
    tap.wait_capturing(*pods.pods)
    sent = talk.send(world, pods.client, direct, 10)
    tap.wait_seen(sent, pods.client, "outbound")
    tap.wait_seen(sent, pods.server, "inbound")
    tap.stop()
    assert tap.seen(pods.client, "outbound") == once(sent)
    assert tap.seen(pods.server, "inbound") == once(sent)
    # from the caller's own address, not from 127.0.0.6
    assert {record["src"].rpartition(":")[0] for record in tap.exchanges_of(pods.server)} == {pods.client.ip}
    assert wire.found(nonces(unseen + sent)) == set()
