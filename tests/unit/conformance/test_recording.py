"""What is recorded of a pod's `lo`: everything once, kept when the pod goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.conformance import truth
from harness.conformance.oracle.decode import decode
from harness.conformance.oracle.wire import connections
from harness.conformance.recording import Recording
from harness.mesh import delivery
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod


@pytest.fixture
def pod() -> Iterator[Pod]:
    with Node() as node:
        pod = node.pod("server")
        delivery.outfit(pod)
        yield pod


def test_every_exchange_is_recorded_once(pod: Pod, tmp_path: Path) -> None:
    recording = Recording(pod, pod.name)
    sent = truth.deliver(pod, 3) + truth.ask(pod, ("10.96.77.10", 80), 2) + truth.deliver(pod, ipv6=True)
    decoded = [decode(connection) for connection in connections(recording.frames())]
    assert [each.target for some in decoded for each in some.exchanges] == [each.target for each in sent]
    assert [some.flaw for some in decoded] == ["", "", ""]
    assert not recording.lost
    before = len(recording.frames())
    recording.save(tmp_path / "lo.pcap")
    sent += truth.deliver(pod)
    assert len(recording.frames()) > before
    recording.close()


def test_a_pod_that_is_deleted_is_let_go_and_what_was_recorded_stays(pod: Pod) -> None:
    recording = Recording(pod, pod.name)
    pod.before_deletion.append(recording.close)
    sent = truth.deliver(pod, 2)
    pod.delete()
    pod.wait_released()
    (connection,) = connections(recording.frames())
    assert [each.target for each in decode(connection).exchanges] == [each.target for each in sent]
