"""The rights of fixtures/istio/tapper/daemonset.yaml: every tapper of these scenarios has them, and no others."""

from __future__ import annotations

import pytest
from manifests import FOLDER, container, of_kind, render

from harness.worlds.world import World

GRANTED = sorted(container(of_kind(render(FOLDER / "tapper"), "DaemonSet"))["securityContext"]["capabilities"]["add"])


@pytest.mark.parametrize("lacking", GRANTED)
def test_with_one_capability_fewer_it_says_which(world: World, lacking: str) -> None:
    """E2E-32: it ends with code 3 and one sentence that names the capability. (That all four do: every scenario.)"""
    target = world.pod("server")
    tap = world.tapper([target], without=lacking)
    tap.wait_for(lambda: tap.ended() is not None, "its end")
    assert tap.ended() == 3
    tap.wait_for(lambda: tap.said(f"CAP_{lacking}", "securityContext.capabilities"), "its reason")
