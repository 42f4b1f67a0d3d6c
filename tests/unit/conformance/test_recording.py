"""The kit's recording of a pod's lo tells which packets their receiver refuses."""

from __future__ import annotations

from harness.conformance import strays, truth
from harness.conformance.oracle.wire import connections
from harness.conformance.recording import Recording
from harness.mesh import delivery, replay
from harness.sandbox.node import Node


def test_only_a_filled_in_and_wrong_checksum_is_refused(node: Node) -> None:
    """The kernel leaves the checksum out of what it hands over on lo, and takes it all the same."""
    pod = node.pod("pod")
    exchange = truth.request("nonce-a"), truth.response("nonce-a")
    replayed = replay.conversation(replay.inbound(pod, 8080, 40001), [exchange])
    recording = Recording(pod, "pod")
    try:
        with delivery.inbound(pod) as conversation:
            conversation.exchange(*exchange)
        own = len(recording.frames())
        replay.play(pod, replayed)
        replay.play(pod, [strays.refused(frame) for frame in replayed])
        frames = recording.frames()
    finally:
        recording.close()
    refused = [frame.refused for frame in frames[own:] if frame.data in (*replayed, *map(strays.refused, replayed))]
    assert own > 0
    assert not any(frame.refused for frame in frames[:own])
    assert refused == [False] * len(replayed) + [True] * len(replayed)
    assert [each.requests.data for each in connections(frames)] == [exchange[0]] * 2
