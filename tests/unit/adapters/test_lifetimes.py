"""Pids that mean another process a moment later, and hundreds of target lists: nothing is mixed up, nothing is kept."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable

import psutil
import pytest
from named_programs import start_named

from harness.adapters.reference import TAPPER_ENVIRON, RunningTapper, tapper_argv
from harness.conformance import truth
from harness.mesh import fake_envoy, replay
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import Command, Process
from harness.waiting import wait_until

StartTapper = Callable[..., RunningTapper]

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def played(pod: Pod, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode()
    replay.play(pod, replay.conversation(replay.inbound(pod, 8080), [(request, ANSWER)]))


def start_with_pid(pod: Pod, pid: int, command: Command) -> Process:
    """A process that gets a pid that has just become free: the kernel counts on from what it is told
    (/proc/sys/kernel/ns_last_pid, of the node's own PID namespace only)."""
    for _ in range(50):
        pod.node.run(["sh", "-c", f"echo {pid - 1} > /proc/sys/kernel/ns_last_pid"])
        process = pod.spawn(command)
        if process.pid == pid:
            return process
        process.stop()
    raise AssertionError(f"pid {pid} was not to be had")


@pytest.mark.parametrize("envoy", [True, False])
def test_a_pid_that_is_used_again(node: Node, tapper: StartTapper, *, envoy: bool) -> None:
    """While the tapper is stopped, the Envoy of one pod ends and its pid is given to a process of another pod, an Envoy
    or not. The first pod's source ends, as nothing of it is left; the second pod's is its own."""
    first, second, canary = node.pod("first"), node.pod("second"), node.pod("canary")
    old = start_named(first, "envoy", {"INSTANCE_IP": first.ip})
    other = start_named(second, "envoy" if envoy else "other", {})  # which leaves the binary there
    running = tapper([first, second, canary])
    running.wait_capturing(first)
    played(first, "/before")
    running.wait_targets(["/before"])
    os.kill(running.process.host_pid, signal.SIGSTOP)
    try:
        pid = old.pid
        old.stop()
        binary = os.readlink(node.procfs / str(other.pid) / "exe")
        program = "import signal; signal.pause()"
        again = start_with_pid(
            second, pid, Command([binary, "-I", "-S", "-c", program], env={"INSTANCE_IP": second.ip})
        )
    finally:
        os.kill(running.process.host_pid, signal.SIGCONT)
    running.wait_for(lambda: not running.captures(first), "the end of the first pod's source")
    fake_envoy.start(canary)
    running.wait_capturing(canary, *([second] if envoy else []))
    for pod in (first, second, canary):
        played(pod, f"/{pod.name}")
    running.wait_targets(["/canary", *(["/second"] if envoy else [])])
    running.stop()
    assert again.pid == pid
    assert running.seen(first) == {"/before": 1}
    assert running.seen(second) == ({"/second": 1} if envoy else {})


def test_nothing_is_kept_over_hundreds_of_lists(node: Node, tapper: StartTapper) -> None:
    """Found by Envoys and by addresses, with sources opened and dropped at nearly every change."""
    pods = [node.pod(f"pod-{number}") for number in range(4)]
    for pod in pods[:2]:
        fake_envoy.start(pod)
    path = node.run_dir / "targets.json"
    fresh = path.with_suffix(".new")

    def write(generation: int) -> None:
        chosen = [pod for number, pod in enumerate(pods) if generation % 15 >> number & 1]
        entries = [{"uid": pod.name, "namespace": "shop", "name": pod.name, "ips": [pod.ip]} for pod in chosen]
        fresh.write_text(json.dumps({"generation": generation, "pods": entries}))
        fresh.rename(path)

    write(0)
    options = ["--targets-file", node.inside(path), "--discover", "envoy", "--discover", "netns"]
    running = tapper([], *options)
    running.wait_for(lambda: running.of_type("ack"), "the first list")
    process = psutil.Process(running.process.host_pid)

    def change(generation: int) -> None:
        write(generation)
        process.send_signal(signal.SIGHUP)
        running.wait_for(lambda: running.of_type("ack")[-1]["generation"] == generation, f"generation {generation}")

    for generation in range(1, 31):
        change(generation)
    before = process.num_fds(), process.num_threads(), process.memory_info().rss
    for generation in range(31, 226):
        change(generation)
    assert (process.num_fds(), process.num_threads()) == before[:2]
    assert process.memory_info().rss < before[2] + (16 << 20)
    opened = [record for record in running.of_type("source") if (record["kind"], record["state"]) == ("pod", "open")]
    assert len(opened) > 180
    running.stop()


def test_a_shells_limit_on_descriptors_is_not_the_tappers(node: Node) -> None:
    """Hundreds of pods take more than the 1,024 that a shell allows at first."""
    argv = tapper_argv("tap", "--filter-authorities", "10.0.0.1", "-o", "ndjson")
    running = node.spawn(Command(["prlimit", "--nofile=256:4096", *argv], env=TAPPER_ENVIRON))
    wait_until(lambda: '"open"' in running.read_log(), "the tapper to capture", logs=running.read_log)
    assert psutil.Process(running.host_pid).rlimit(psutil.RLIMIT_NOFILE) == (4096, 4096)


def test_records_that_wait_for_the_wire_when_it_is_stopped_are_told(node: Node, tapper: StartTapper) -> None:
    """The node's ring is closed before those of the pods, whose records wait for a look at the wire."""
    pods = [node.pod(f"server-{number}") for number in range(6)]
    for pod in pods:
        fake_envoy.start(pod)
    running = tapper(pods)
    running.wait_capturing(*pods)
    sent = [truth.deliver(pod, 40) for pod in pods]
    assert running.stop() == 0, running.read_log()
    assert len(running.exchanges) == sum(map(len, sent))
