"""Only the pods that were asked for: at the start, and as they change."""

from __future__ import annotations

from scenes import both_legs_once, once, pair

from harness.mesh.traffic import nonces
from harness.worlds.world import World


def test_a_neighbours_markers_never_appear(world: World) -> None:
    """E2E-08: two pairs, one asked for. Nothing of the other is in any record, sent between requests that are seen."""
    wanted, neighbour = pair(world), pair(world, name="other-")
    tap = world.tapper(wanted.pods)
    tap.wait_capturing(*wanted.pods)
    sent = wanted.send(5)
    foreign = neighbour.send(20)
    sent += wanted.send(5)
    both_legs_once(tap, wanted, sent)
    everything = str(tap.records_by_node())
    assert not [nonce for nonce in nonces(foreign) if nonce in everything]


def test_targets_that_are_added_and_removed(world: World) -> None:
    """E2E-09: the list changes while the tapper runs: one pair in place of the other."""
    first, second = pair(world, name="first-"), pair(world, name="second-")
    tap = world.tapper(first.pods)
    tap.wait_capturing(*first.pods)
    early = first.send(5)
    tap.wait_seen(early, first.server, "inbound")
    tap.retarget(second.pods)
    tap.wait_capturing(*second.pods)
    tap.wait_for(lambda: not any(tap.captures(pod) for pod in first.pods), "the end of its capture in the first pair")
    late = first.send(5)
    sent = second.send(5)
    both_legs_once(tap, second, sent)
    assert tap.seen(first.server, "inbound") == once(early)
    assert not set(once(late)) & tap.seen().keys()


def test_nobody_is_captured_when_nobody_is_asked_for(world: World) -> None:
    """E2E-10: an empty list captures nothing; the pods named afterwards are the canary."""
    meshed = pair(world)
    tap = world.tapper([])
    unseen = meshed.send(5)
    tap.retarget(meshed.pods)
    tap.wait_capturing(*meshed.pods)
    sent = meshed.send(5)
    both_legs_once(tap, meshed, sent)
    assert not set(once(unseen)) & tap.seen().keys()
