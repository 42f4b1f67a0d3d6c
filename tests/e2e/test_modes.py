"""What sidecars accept: STRICT (test_experiment), PERMISSIVE, DISABLE, and a switch between them."""

from __future__ import annotations

from scenes import both_legs_once, once, pair

from harness.mesh.traffic import nonces
from harness.mesh.workload import Mode
from harness.worlds import talk
from harness.worlds.world import World


def test_permissive_is_mtls_between_sidecars_and_plain_for_others(world: World) -> None:
    """E2E-04: PERMISSIVE. Callers with a sidecar are not readable on the wire, those without are; both are captured."""
    meshed = pair(world, Mode.PERMISSIVE)
    outsider = world.pod("outsider")
    wire = world.wire(meshed.server)
    tap = world.tapper(meshed.pods)
    tap.wait_capturing(*meshed.pods)
    inside = meshed.send(10)
    outside = talk.send(world, outsider, meshed.service, 10)
    tap.wait_seen(outside, meshed.server, "inbound")
    tap.wait_seen(outside, meshed.server, "wire")
    tap.wait_seen(inside, meshed.client, "outbound")
    tap.wait_seen(inside, meshed.server, "inbound")
    tap.stop()
    assert tap.seen(meshed.server, "inbound") == once(inside + outside)
    assert tap.seen(meshed.server, "wire") == once(outside)
    assert wire.found(nonces(inside + outside)) == nonces(outside)


def test_strict_refuses_a_caller_without_a_sidecar(world: World) -> None:
    """E2E-05: STRICT. Such a caller gets no answer, and nothing of it enters the application; it is said by nobody."""
    meshed = pair(world)
    outsider = world.pod("outsider")
    tap = world.tapper(meshed.pods)
    tap.wait_capturing(*meshed.pods)
    answered, refused = talk.attempt(world, outsider, meshed.service)
    sent = meshed.send(5)
    both_legs_once(tap, meshed, sent)
    assert (answered, len(refused)) == ([], 1)


def test_disable_leaves_everything_readable(world: World) -> None:
    """E2E-06: DISABLE. The wire shows every request, and both legs are captured as ever."""
    meshed = pair(world, Mode.DISABLE)
    wire = world.wire(meshed.server)
    tap = world.tapper(meshed.pods)
    tap.wait_capturing(*meshed.pods)
    sent = meshed.send(10)
    both_legs_once(tap, meshed, sent)
    assert wire.found(nonces(sent)) == nonces(sent)


def test_a_switch_of_modes_while_traffic_flows(world: World) -> None:
    """E2E-07: PERMISSIVE to STRICT and back under load: every request that was answered is reported once a leg."""
    meshed = pair(world, Mode.PERMISSIVE)
    tap = world.tapper(meshed.pods)
    tap.wait_capturing(*meshed.pods)
    load = talk.load(world, meshed.client, meshed.service)
    for mode in (Mode.STRICT, Mode.PERMISSIVE, Mode.STRICT):
        load.wait_more(5)
        world.set_mode(mode, *meshed.pods)
        load.wait_more(5)
    sent, _ = load.stop()
    tap.wait_seen(sent, meshed.client, "outbound")
    tap.wait_seen(sent, meshed.server, "inbound")
    tap.stop()
    for pod, direction in ((meshed.client, "outbound"), (meshed.server, "inbound")):
        seen = tap.seen(pod, direction)
        assert {target: seen[target] for target in once(sent)} == once(sent)
