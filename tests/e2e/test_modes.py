"""What sidecars accept: STRICT (test_experiment), PERMISSIVE, DISABLE, and a switch between them."""

from __future__ import annotations

from stages import play

from harness.conformance.groups import mesh
from harness.worlds.world import World


def test_permissive_is_mtls_between_sidecars_and_plain_for_others(world: World) -> None:
    """E2E-04: PERMISSIVE. Callers with a sidecar are not readable on the wire, those without are; both are captured."""
    tap = play(world, mesh.permissive)
    on_the_wire = tap.seen(None, "node")
    assert len(on_the_wire) == 10
    assert set(on_the_wire.values()) == {1}


def test_strict_refuses_a_caller_without_a_sidecar(world: World) -> None:
    """E2E-05: STRICT. Such a caller gets no answer, and nothing of it enters the application; it is said by nobody."""
    play(world, mesh.strict_refuses)


def test_disable_leaves_everything_readable(world: World) -> None:
    """E2E-06: DISABLE. The wire shows every request, and both legs are captured as ever."""
    play(world, mesh.disable)


def test_a_switch_of_modes_while_traffic_flows(world: World) -> None:
    """E2E-07: PERMISSIVE to STRICT and back under load: every request that was answered is reported once a leg."""
    play(world, mesh.switch)
