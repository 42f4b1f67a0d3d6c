"""Pods, proxies and tappers that come and go."""

from __future__ import annotations

import time

import pytest
from scenes import PodPair, both_legs_once, pair
from stages import play

from harness.adapters.reference import ReferenceTapper
from harness.conformance.groups import mesh_lifetimes
from harness.mesh.workload import Mode
from harness.worlds import talk
from harness.worlds.world import World

_GROWTH = 24 << 20
"""What churn may add to the tapper's memory: buffers of the interpreter, and records' strings. A ring is 8 MiB."""


def test_a_pod_that_goes_is_let_go(world: World) -> None:
    """E2E-14: a target is deleted: the tapper closes it, and the kernel destroys its namespace: nobody pins it."""
    play(world, mesh_lifetimes.let_go)


def test_a_pod_that_comes_again_is_another_pod(world: World) -> None:
    """E2E-15: deleted and made again: another address, captured as soon as it is a target."""
    play(world, mesh_lifetimes.made_again)


def test_from_one_pod_to_five_and_back(world: World) -> None:
    """E2E-16: a service grows to five pods and shrinks to one: each exchange at exactly one of them, once."""
    tap = play(world, mesh_lifetimes.scaled)
    entered = {record["pod_ip"] for record in tap.exchanges_of(None, "inbound") if "/orders/" in record["target"]}
    assert len(entered) > 1


def test_a_rollout_under_load(world: World) -> None:
    """E2E-17: every pod behind a service is replaced while requests go on: each answered one is reported once a leg."""
    play(world, mesh_lifetimes.rollout)


def test_a_proxy_that_starts_again(world: World) -> None:
    """E2E-18: the server's Envoy ends and another starts in the same pod."""
    play(world, mesh_lifetimes.proxy_again)


def test_a_tapper_that_is_killed(world: World) -> None:
    """E2E-19: SIGKILL, and another in its place: what was sent before and after is reported; pods stay as they are."""
    meshed = pair(world)
    tap = world.tapper(meshed.pods)
    tap.wait_capturing(*meshed.pods)
    before = meshed.send(5)
    tap.wait_seen(before, meshed.server, "inbound")
    tap.wait_seen(before, meshed.client, "outbound")
    tap.kill()
    tap.wait_capturing(*meshed.pods)
    after = meshed.send(5)
    both_legs_once(tap, meshed, before + after)


def test_churn_is_bounded(world: World, request: pytest.FixtureRequest) -> None:
    """E2E-20: pods come and go for as long as --churn-minutes says: every one is captured and let go, memory stays."""
    meshed = pair(world)
    tap = world.tapper(meshed.pods)
    tap.wait_capturing(*meshed.pods)
    end = time.monotonic() + 60 * request.config.getoption("--churn-minutes")
    reference = 0
    turns = 0
    while time.monotonic() < end or turns < 4:
        _one_turn(world, tap, meshed, turns)
        turns += 1
        if turns == 3:
            reference = tap.resident_bytes()
    assert tap.resident_bytes() < reference + _GROWTH
    assert len(tap.sources()) == 2
    tap.stop()


def _one_turn(world: World, tap: ReferenceTapper, meshed: PodPair, number: int) -> None:
    guest = world.pod(f"guest-{number}", mode=Mode.STRICT)
    service = world.service(f"guests-{number}", guest)
    tap.retarget([*meshed.pods, guest])
    tap.wait_capturing(guest)
    sent = talk.send(world, meshed.client, service, 3)
    tap.wait_seen(sent, guest, "inbound")
    world.set_endpoints(service)
    world.delete(guest)
    world.wait_released(guest)
    tap.wait_for(lambda: not tap.captures(guest), f"the end of its capture in {guest.name}")
