"""What is recorded of a pod's `lo`: everything once, kept when the pod goes. What its receiver refuses is marked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.conformance import strays, truth
from harness.conformance.oracle.decode import decode
from harness.conformance.oracle.wire import connections
from harness.mesh import delivery, replay
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.recorder import on_lo


@pytest.fixture
def pod() -> Iterator[Pod]:
    with Node() as node:
        pod = node.pod("server")
        delivery.outfit(pod)
        yield pod


def test_every_exchange_is_recorded_once(pod: Pod, tmp_path: Path) -> None:
    recording = on_lo(pod, pod.name)
    sent = truth.deliver(pod, 3) + truth.ask(pod, ("10.96.77.10", 80), 2) + truth.deliver(pod, ipv6=True)
    decoded = [decode(connection) for connection in connections(recording.frames)]
    assert [each.target for some in decoded for each in some.exchanges] == [each.target for each in sent]
    assert [some.flaw for some in decoded] == ["", "", ""]
    assert recording.dropped == 0
    before = len(recording.frames)
    recording.save(tmp_path / "lo.pcap")
    sent += truth.deliver(pod)
    assert len(recording.frames) > before
    recording.stop()


def test_a_pod_that_is_deleted_is_let_go_and_what_was_recorded_stays(pod: Pod) -> None:
    recording = on_lo(pod, pod.name)
    pod.before_deletion.append(recording.stop)
    sent = truth.deliver(pod, 2)
    pod.delete()
    pod.wait_released()
    (connection,) = connections(recording.frames)
    assert [each.target for each in decode(connection).exchanges] == [each.target for each in sent]


def test_only_a_filled_in_and_wrong_checksum_is_refused(pod: Pod) -> None:
    """The kernel leaves the checksum out of what it hands over on lo, and takes it all the same."""
    exchange = truth.request("nonce-a"), truth.response("nonce-a")
    replayed = replay.conversation(replay.inbound(pod, 8080, 40001), [exchange])
    recording = on_lo(pod, pod.name)
    try:
        with delivery.inbound(pod) as conversation:
            conversation.exchange(*exchange)
        own = len(recording.frames)
        replay.play(pod, replayed)
        replay.play(pod, [strays.refused(frame) for frame in replayed])
        frames = recording.frames
    finally:
        recording.stop()
    refused = [frame.refused for frame in frames[own:] if frame.data in (*replayed, *map(strays.refused, replayed))]
    assert own > 0
    assert not any(frame.refused for frame in frames[:own])
    assert refused == [False] * len(replayed) + [True] * len(replayed)
    assert [each.requests.data for each in connections(frames)] == [exchange[0]] * 2
