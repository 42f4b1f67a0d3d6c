"""Only the pods that were asked for: at the start, and as they change."""

from __future__ import annotations

from stages import play

from harness.conformance.groups import mesh_lifetimes
from harness.worlds.world import World


def test_a_neighbours_markers_never_appear(world: World) -> None:
    """E2E-08: two pairs, one asked for. Nothing of the other is in any record, sent between requests that are seen."""
    play(world, mesh_lifetimes.neighbour)


def test_targets_that_are_added_and_removed(world: World) -> None:
    """E2E-09: the list changes while the tapper runs: one pair in place of the other."""
    play(world, mesh_lifetimes.added_and_removed)


def test_nobody_is_captured_when_nobody_is_asked_for(world: World) -> None:
    """E2E-10: an empty list captures nothing; the pods named afterwards are the canary."""
    play(world, mesh_lifetimes.nobody)
