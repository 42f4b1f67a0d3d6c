"""What several scenarios begin with, and how they count."""

from __future__ import annotations

from collections.abc import Sequence

from harness.mesh.traffic import Sent
from harness.worlds.pairs import Pair, pair
from harness.worlds.tap import Tap

__all__ = ["Pair", "both_legs_once", "once", "pair"]


def once(sent: Sequence[Sent]) -> dict[str, int]:
    """Each of the requests' targets, one time."""
    return {each.target: 1 for each in sent}


def both_legs_once(tap: Tap, pods: Pair, sent: Sequence[Sent]) -> None:
    """Wait for both legs of each request; then nothing was reported twice, and nothing else."""
    tap.wait_seen(sent, pods.client, "outbound")
    tap.wait_seen(sent, pods.server, "inbound")
    tap.stop()
    assert tap.seen(pods.client, "outbound") == once(sent)
    assert tap.seen(pods.server, "inbound") == once(sent)
