"""Rings that fall silent while their pods talk, told from those of idle pods."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass, field

import pytest

from harness.adapters.reference import TAPPER_ENVIRON
from harness.conformance import truth
from harness.mesh import fake_envoy
from harness.sandbox.node import Node
from harness.sandbox.process import Command
from harness.waiting import wait_until
from tapper.capture.mapped import Statistics
from tapper.discovery.procfs import Procfs
from tapper.namespaces.identity import NamespaceId
from tapper.output.records import Place
from tapper.run.silent import SilentRings

NETNS = NamespaceId(4, 77)
PLACE = Place("pod", 77, "lo", 1, "10.0.0.2")


@dataclass(eq=False)
class Counted:
    """A ring's counts."""

    received: int = 0
    dropped: int = 0

    def statistics(self) -> Statistics:
        return Statistics(self.received, self.dropped)


@dataclass
class World:
    ring: Counted = field(default_factory=Counted)
    passed: int | None = 0
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rings = SilentRings(lambda _: self.passed, lambda _, sentence: self.said.append(sentence))

    def look(self) -> None:
        self.rings.check([(NETNS, self.ring, PLACE)])  # type: ignore[list-item]


def test_a_silent_ring_is_named_with_the_pod_and_the_packets() -> None:
    world = World()
    world.look()
    world.passed = 1000
    world.look()
    (sentence,) = world.said
    assert sentence.startswith("nothing is captured of the pod 10.0.0.2 although 1000 packets of TCP passed its lo")


@pytest.mark.parametrize(
    ("received", "dropped", "passed"),
    [(1, 0, 1000), (0, 1, 1000), (0, 0, 10), (0, 0, 0), (0, 0, -1000), (0, 0, None)],
    ids=["receives", "drops", "few", "idle", "other protocols", "unknown"],
)
def test_other_rings_are_not(received: int, dropped: int, passed: int | None) -> None:
    world = World()
    world.look()
    world.ring.received, world.ring.dropped, world.passed = received, dropped, passed
    world.look()
    assert not world.said


def test_a_ring_that_is_new_is_not_blamed_for_what_passed_before_it() -> None:
    world = World()
    world.look()
    world.passed, world.ring = 1000, Counted()
    world.look()
    assert not world.said


@pytest.mark.skipif(os.geteuid() != 0, reason="entering a namespace needs CAP_SYS_ADMIN")
def test_the_kernels_counters_tell_tcp_on_lo_from_other_packets(node: Node) -> None:
    pod = node.pod("server")
    procfs = Procfs("/proc")
    before = procfs.tcp_on_lo(pod.host_pid)
    assert before is not None
    with pod.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(100):
            sender.sendto(b"x", ("127.0.0.1", 9))
    between = procfs.tcp_on_lo(pod.host_pid)
    assert between is not None
    assert between <= before
    truth.deliver(pod, 10)
    after = procfs.tcp_on_lo(pod.host_pid)
    assert after is not None
    assert after - between >= 20


def test_a_tapper_whose_rings_receive_nothing_says_so(node: Node) -> None:
    """Its filter lets nothing in here, as a program on lo would."""
    pod = node.pod("server")
    fake_envoy.start(pod)
    code = (
        "import sys; from tapper.capture import bpf; from tapper.cli import main; "
        f"bpf.program = lambda *_, **__: bpf.REJECT_ALL; sys.exit(main(['tap', '--istio', '--targets', '{pod.ip}']))"
    )
    tapper = node.spawn(Command([sys.executable, "-c", code], env=TAPPER_ENVIRON | {"TAPPER_PURE": "1"}))

    def said() -> bool:
        truth.deliver(pod, 10)
        return f"nothing is captured of the pod {pod.ip}" in tapper.read_log()

    wait_until(said, "the silence to be said", logs=tapper.read_log)
