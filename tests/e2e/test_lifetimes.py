"""Pods, proxies and tappers that come and go."""

from __future__ import annotations

import time

import pytest
from scenes import Pair, both_legs_once, once, pair

from harness.mesh.workload import Mode
from harness.worlds import talk
from harness.worlds.tap import Tap
from harness.worlds.world import World

_GROWTH = 24 << 20
"""What churn may add to the tapper's memory: buffers of the interpreter, and records' strings. A ring is 8 MiB."""


def test_a_pod_that_goes_is_let_go(world: World) -> None:
    """E2E-14: a target is deleted: the tapper closes it, and the kernel destroys its namespace: nobody pins it."""
    meshed = pair(world)
    tap = world.tapper(meshed.pods)
    tap.wait_capturing(*meshed.pods)
    sent = meshed.send(3)
    tap.wait_seen(sent, meshed.server, "inbound")
    world.set_endpoints(meshed.service)
    world.delete(meshed.server)
    world.wait_released(meshed.server)
    tap.wait_for(lambda: not tap.captures(meshed.server), "the end of its capture")
    tap.stop()


def test_a_pod_that_comes_again_is_another_pod(world: World) -> None:
    """E2E-15: deleted and made again under load: another address, captured as soon as it is a target."""
    meshed = pair(world)
    tap = world.tapper(meshed.pods)
    tap.wait_capturing(*meshed.pods)
    first = meshed.send(3)
    tap.wait_seen(first, meshed.server, "inbound")
    world.set_endpoints(meshed.service)
    world.delete(meshed.server)
    again = world.pod("server", mode=Mode.STRICT)
    tap.retarget([meshed.client, again])
    tap.wait_capturing(again)
    world.set_endpoints(meshed.service, again)
    second = meshed.send(3)
    tap.wait_seen(second, again, "inbound")
    tap.wait_seen(second, meshed.client, "outbound")
    tap.stop()
    assert tap.seen(meshed.client, "outbound") == once(first + second)
    assert tap.seen(again, "inbound") == once(second)


def test_from_one_pod_to_five_and_back(world: World) -> None:
    """E2E-16: a service grows to five pods and shrinks to one: each exchange at exactly one of them, once."""
    meshed = pair(world)
    more = [world.pod(f"server-{number}", mode=Mode.STRICT) for number in range(2, 6)]
    everyone = [meshed.server, *more]
    tap = world.tapper(meshed.pods)
    tap.wait_capturing(*meshed.pods)
    sent = meshed.send(5)
    tap.retarget([meshed.client, *everyone])
    tap.wait_capturing(*more)
    world.set_endpoints(meshed.service, *everyone)
    for _ in range(4):
        sent += meshed.send(10)
    world.set_endpoints(meshed.service, meshed.server)
    for pod in more:
        world.delete(pod)
        world.wait_released(pod)
    sent += meshed.send(5)
    tap.wait_seen(sent, meshed.client, "outbound")
    tap.wait_seen(sent, None, "inbound")
    tap.stop()
    assert tap.seen(meshed.client, "outbound") == once(sent)
    assert tap.seen(None, "inbound") == once(sent)
    assert sum(1 for pod in everyone if tap.seen(pod, "inbound")) > 1


def test_a_rollout_under_load(world: World) -> None:
    """E2E-17: every pod behind a service is replaced while requests go on: each answered one is reported once a leg."""
    meshed = pair(world)
    tap = world.tapper(meshed.pods)
    tap.wait_capturing(*meshed.pods)
    load = talk.load(world, meshed.client, meshed.service)
    load.wait_more(5)
    current = meshed.server
    for number in range(2):
        fresh = world.pod(f"next-{number}", mode=Mode.STRICT)
        tap.retarget([meshed.client, current, fresh])
        tap.wait_capturing(fresh)
        world.set_endpoints(meshed.service, fresh)
        load.wait_more(5)
        world.delete(current)
        world.wait_released(current)
        load.wait_more(5)
        current = fresh
    sent, _ = load.stop()
    tap.wait_seen(sent, meshed.client, "outbound")
    tap.stop()
    outbound, inbound = tap.seen(meshed.client, "outbound"), tap.seen(None, "inbound")
    assert {target: outbound[target] for target in once(sent)} == once(sent)
    # a pod may be killed between its answer and its last packets: what it reported of that is at most once
    assert set(inbound.values()) == {1}
    assert len(set(once(sent)) - inbound.keys()) <= 2


def test_a_proxy_that_starts_again(world: World) -> None:
    """E2E-18: the server's Envoy ends and another starts in the same pod."""
    meshed = pair(world)
    tap = world.tapper(meshed.pods)
    tap.wait_capturing(*meshed.pods)
    sent = meshed.send(3)
    tap.wait_seen(sent, meshed.server, "inbound")
    (before,) = [source["pid"] for source in tap.sources() if source["instance_ip"] in meshed.server.ips]
    world.restart_proxy(meshed.server)

    def another() -> bool:
        return any(s["instance_ip"] in meshed.server.ips and s["pid"] != before for s in tap.sources())

    tap.wait_for(another, "its capture by the new Envoy")
    sent += meshed.send(3)
    both_legs_once(tap, meshed, sent)


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


def _one_turn(world: World, tap: Tap, meshed: Pair, number: int) -> None:
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
