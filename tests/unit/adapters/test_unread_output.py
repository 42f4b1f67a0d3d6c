"""The reference while nobody reads its output: its loop goes on, and it ends when it is told to."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from harness.adapters.reference import TAPPER_ENVIRON, tapper_argv
from harness.conformance import truth
from harness.mesh import fake_envoy
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import Command
from harness.waiting import wait_until

_MUCH = 40  # exchanges of 64 KiB, more than the pipe and the queue before it hold


def is_captured(pod: Pod) -> bool:
    """Whether there is a packet socket in the pod's namespace."""
    return Path(f"/proc/{pod.host_pid}/net/packet").read_text().count("\n") > 1  # the first line is the heading


def test_the_loop_goes_on_and_the_end_is_an_error(node: Node) -> None:
    """A pod that comes while the output is unread is captured, and SIGTERM ends the run."""
    first, later = node.pod("first"), node.pod("later")
    fake_envoy.start(first)
    argv = tapper_argv("tap", "--istio", "--targets", f"{first.ip},{later.ip}", "-o", "ndjson")
    tapper = node.spawn(Command(argv, env=TAPPER_ENVIRON), stdout=subprocess.PIPE)
    wait_until(lambda: is_captured(first), "the first pod to be captured", logs=tapper.read_log)
    truth.deliver(first, _MUCH, body=b"x" * (64 << 10))
    wait_until(lambda: "the output is not read" in tapper.read_log(), "the reader to be said to lag")
    fake_envoy.start(later)
    wait_until(lambda: is_captured(later), "the later pod to be captured", logs=tapper.read_log)
    tapper.send_signal(signal.SIGTERM)
    assert tapper.wait(20) == 1
    assert "the output is incomplete: its reader has not taken the last" in tapper.read_log()
