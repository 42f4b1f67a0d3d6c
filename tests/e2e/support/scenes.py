"""What several scenarios begin with, and how they count."""

from __future__ import annotations

from collections.abc import Sequence

from harness.adapters.reference import ReferenceTapper
from harness.mesh.traffic import AnsweredRequest
from harness.worlds.pairs import PodPair, pair

__all__ = ["PodPair", "both_legs_once", "once", "pair"]


def once(sent: Sequence[AnsweredRequest]) -> dict[str, int]:
    """Each of the requests' targets, one time."""
    return {each.target: 1 for each in sent}


def both_legs_once(tap: ReferenceTapper, pods: PodPair, sent: Sequence[AnsweredRequest]) -> None:
    """Wait for both legs of each request; then nothing was reported twice, and nothing else."""
    tap.wait_seen(sent, pods.client, "outbound")
    tap.wait_seen(sent, pods.server, "inbound")
    tap.stop()
    assert tap.seen(pods.client, "outbound") == once(sent)
    assert tap.seen(pods.server, "inbound") == once(sent)
