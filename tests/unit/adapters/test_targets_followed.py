"""`--targets-file` end to end: who is added is captured, who is removed is not any more, whatever comes.

A file replaced by rename is what the tests write; each waits for the acknowledgement of its generation.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import harness
from harness.adapters.reference import RunningTapper, tapper_argv
from harness.mesh import fake_envoy, replay
from harness.mesh.mesh import Mesh
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import MINIMAL_ENVIRON, Command

StartTapper = Callable[..., RunningTapper]

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def played(pod: Pod, path: str, port: int = 40001) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode()
    replay.play(pod, replay.conversation(replay.inbound(pod, 8080, port), [(request, ANSWER)]))


class List:
    """The file, and the tapper that follows it."""

    def __init__(self, node: Node, start: StartTapper) -> None:
        self._path = node.run_dir / "targets.json"
        self._inside = node.inside(self._path)
        self._start = start
        self.generation = 0
        self.running: RunningTapper

    def start(self, *options: str, static: tuple[str | Pod, ...] = (), istio: bool = True) -> RunningTapper:
        self.running = self._start(static, "--targets-file", self._inside, *options, istio=istio)
        self.wait_acknowledged()
        return self.running

    def write(self, *pods: Pod) -> None:
        self.generation += 1
        entries = [
            {"uid": pod.name, "namespace": "shop", "name": pod.name, "ips": [pod.ip, str(pod.ipv6)]} for pod in pods
        ]
        self.put(json.dumps({"generation": self.generation, "pods": entries}))

    def put(self, text: str) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(text)
        fresh.rename(self._path)

    def remove(self) -> None:
        self._path.unlink()

    def change(self, *pods: Pod) -> None:
        self.write(*pods)
        self.wait_acknowledged()

    def wait_acknowledged(self) -> None:
        def acknowledged() -> bool:
            return any(record["generation"] == self.generation for record in self.running.of_type("ack"))

        self.running.wait_for(acknowledged, f"generation {self.generation}")


@pytest.fixture
def listed(node: Node, tapper: StartTapper) -> List:
    return List(node, tapper)


def open_pods(running: RunningTapper) -> set[int | str]:
    return running.open_sources() - {"node"}


def test_an_envoy_that_runs_already_is_found_when_it_becomes_a_target(node: Node, listed: List) -> None:
    """From an empty list, which captures nothing, to one and to the other; the sources are there when it says ack."""
    one, other = node.pod("one"), node.pod("other")
    for pod in (one, other):
        fake_envoy.start(pod)
    listed.write()
    running = listed.start()
    assert open_pods(running) == set()
    played(one, "/one/0")
    listed.change(one)
    assert open_pods(running) == {one.netns_inode}
    played(one, "/one/1", 40002)
    played(other, "/other/1", 40002)
    running.wait_targets(["/one/1"])
    listed.change(other)
    assert open_pods(running) == {other.netns_inode}
    played(one, "/one/2", 40003)
    played(other, "/other/2", 40003)
    running.wait_targets(["/other/2"])
    listed.change()
    assert open_pods(running) == set()
    played(other, "/other/3", 40004)
    listed.change(one)
    played(one, "/one/4", 40005)
    running.wait_targets(["/one/4"])
    running.stop()
    assert running.seen() == {"/one/1": 1, "/other/2": 1, "/one/4": 1}
    assert [record["generation"] for record in running.of_type("ack")] == [1, 2, 3, 4, 5]


def test_records_have_the_pods_name(node: Node, listed: List) -> None:
    pod = node.pod("server")
    fake_envoy.start(pod)
    listed.write(pod)
    running = listed.start()
    played(pod, "/seen")
    running.wait_targets(["/seen"])
    running.stop()
    name = {"namespace": "shop", "name": "server"}
    assert [record["pod"] for record in running.exchanges] == [name]
    assert [record.get("pod") for record in running.of_type("source") if record["kind"] == "pod"] == [name, name]


def test_nothing_of_a_removed_target_is_reported_any_more(node: Node, listed: List) -> None:
    """Not even what was half seen before: its answer would have come out when the source was drained."""
    gone, kept = node.pod("gone"), node.pod("kept")
    for pod in (gone, kept):
        fake_envoy.start(pod)
    listed.write(gone, kept)
    running = listed.start()
    request = b"GET /half HTTP/1.1\r\nHost: shop\r\n\r\n"
    frames = replay.conversation(
        replay.inbound(gone, 8080), [(b"GET /whole HTTP/1.1\r\n\r\n", ANSWER), (request, ANSWER)]
    )
    replay.play(gone, frames[:6])
    running.wait_targets(["/whole"])
    listed.change(kept)
    replay.play(gone, frames[6:])
    played(kept, "/canary")
    running.wait_targets(["/canary"])
    running.stop()
    assert running.seen() == {"/whole": 1, "/canary": 1}


def test_the_nodes_own_capture_follows_too(mesh: Mesh, listed: List) -> None:
    """Pods without sidecars, seen on the node's interfaces: added and removed by the file alone."""
    client, first, second = mesh.pod("client"), mesh.pod("first"), mesh.pod("second")
    listed.write()
    running = listed.start(istio=False)
    before = mesh.send(client, first, 3)
    listed.change(first.pod)
    to_first, to_second = mesh.send(client, first, 3), mesh.send(client, second, 3)
    running.wait_targets([sent.target for sent in to_first])
    listed.change(second.pod)
    late, seen = mesh.send(client, first, 3), mesh.send(client, second, 3)
    running.wait_targets([sent.target for sent in seen])
    running.stop()
    assert running.seen() == {sent.target: 1 for sent in [*to_first, *seen]}
    assert {sent.target for sent in [*before, *to_second, *late]}.isdisjoint(running.seen())
    assert {record["pod"]["name"] for record in running.exchanges} == {"first", "second"}


def test_a_real_sidecar_comes_and_goes_with_the_file(mesh: Mesh, listed: List) -> None:
    client, server = mesh.pod("client"), mesh.pod("server")
    mesh.inject(client, server)
    listed.write(client.pod)
    running = listed.start("--verify")
    first = mesh.send(client, server, 5)
    running.wait_targets([sent.target for sent in first], direction="outbound")
    listed.change(server.pod)
    second = mesh.send(client, server, 5)
    running.wait_targets([sent.target for sent in second], direction="inbound")
    running.stop()
    assert running.seen(client.pod) == {sent.target: 1 for sent in first}
    assert running.seen(server.pod) == {sent.target: 1 for sent in second}


def test_any_address_of_a_pod_counts(node: Node, listed: List) -> None:
    pod = node.pod("server")
    fake_envoy.start(pod, instance_ip=str(pod.ipv6))
    listed.write(pod)
    running = listed.start("--verify")
    assert open_pods(running) == {pod.netns_inode}
    played(pod, "/seen")
    running.wait_targets(["/seen"])
    running.stop()
    assert [record["pod"]["name"] for record in running.exchanges] == ["server"]


@pytest.mark.parametrize(("text", "reason"), [(None, "no such file"), ("{", "is no list of targets")])
def test_a_bad_file_at_the_start_is_two(node: Node, text: str | None, reason: str) -> None:
    path = node.run_dir / "bad.json"
    if text is not None:
        path.write_text(text)
    argv = tapper_argv("tap", "--targets-file", node.inside(path))
    env = MINIMAL_ENVIRON | {"PYTHONPATH": str(Path(harness.__file__).parents[1])}
    process = node.spawn(Command(argv, env=env), name="tapper")
    assert process.wait() == 2, process.read_log()
    assert process.read_log().count("\n") == 1
    assert node.inside(path) in process.read_log()
    assert reason in process.read_log()


def test_addresses_of_both_options_are_united(node: Node, listed: List) -> None:
    fixed, listed_pod = node.pod("fixed"), node.pod("listed")
    for pod in (fixed, listed_pod):
        fake_envoy.start(pod)
    listed.write(listed_pod)
    running = listed.start(static=(fixed,))
    assert open_pods(running) == {fixed.netns_inode, listed_pod.netns_inode}
    listed.change()
    assert open_pods(running) == {fixed.netns_inode}
    played(fixed, "/fixed")
    running.wait_targets(["/fixed"])
    running.stop()


def test_a_bad_file_changes_nothing_and_is_complained_about_once(node: Node, listed: List) -> None:
    pod, other = node.pod("server"), node.pod("other")
    for each in (pod, other):
        fake_envoy.start(each)
    listed.write(pod)
    running = listed.start()
    listed.put('{"generation": 99, "pods": [{"namespace": "a", "name": "b", "ips": ["10.0.0.300"]}]}')
    running.wait_for(lambda: "10.0.0.300" in running.read_log(), "the bad address")
    played(pod, "/still")
    running.wait_targets(["/still"])
    listed.remove()
    running.wait_for(lambda: "no such file" in running.read_log(), "that the file is gone")
    played(pod, "/and-still", 40002)
    running.wait_targets(["/and-still"])
    listed.change(other)
    assert open_pods(running) == {other.netns_inode}
    running.stop()
    for reason in ("10.0.0.300", "no such file"):
        (line,) = [line for line in running.read_log().splitlines() if reason in line]
        assert "targets.json" in line
        assert line.endswith("the targets stay as they were")
    assert 99 not in [record["generation"] for record in running.of_type("ack")]


def test_sighup_reads_a_file_again_that_looks_the_same(node: Node, listed: List) -> None:
    """A list of the same generation is acknowledged again; without --targets-file SIGHUP would have ended it."""
    pod = node.pod("server")
    fake_envoy.start(pod)
    listed.write(pod)
    running = listed.start()
    psutil.Process(running.process.host_pid).send_signal(signal.SIGHUP)
    running.wait_for(lambda: len(running.of_type("ack")) == 2, "a second acknowledgement")
    assert open_pods(running) == {pod.netns_inode}
    played(pod, "/seen")
    running.wait_targets(["/seen"])
    running.stop()
    assert len([record for record in running.of_type("source") if record["kind"] == "pod"]) == 2  # open, closed


def test_descriptors_stay_flat_over_changes(node: Node, listed: List) -> None:
    """And what was removed is let go of: its namespace ends with its pod."""
    one, other = node.pod("one"), node.pod("other")
    for pod in (one, other):
        fake_envoy.start(pod)
    listed.write(one)
    running = listed.start()
    process = psutil.Process(running.process.host_pid)
    listed.change(other)
    before = process.num_fds(), process.num_threads()
    for _ in range(10):
        listed.change(one)
        listed.change(other)
    assert (process.num_fds(), process.num_threads()) == before
    one.delete()
    one.wait_released()
    running.stop()


def test_ready_is_said_when_it_is_true(node: Node) -> None:
    """What is sent right after the word is reported."""
    server = node.pod("server")
    fake_envoy.start(server)
    env = MINIMAL_ENVIRON | {"PYTHONPATH": str(Path(harness.__file__).parents[1])}
    argv = tapper_argv("tap", "--istio", "--filter-authorities", server.ip, "--ready-fd", "3", "-o", "ndjson")
    reading, writing = os.pipe2(os.O_CLOEXEC)
    process = node.spawn(Command(argv, env=env), name="tapper", stdout=subprocess.PIPE, fds=[writing])
    os.close(writing)
    with open(reading, "rb") as ready:  # noqa: PTH123 - a descriptor
        assert ready.read() == b"\n", process.read_log()
    played(server, "/first")
    assert process.stop() == 0
    assert process.stdout is not None
    assert b'"/first"' in process.stdout.read()


def test_ready_on_a_descriptor_that_is_none_is_two(node: Node) -> None:
    env = MINIMAL_ENVIRON | {"PYTHONPATH": str(Path(harness.__file__).parents[1])}
    argv = tapper_argv("tap", "--filter-authorities", "10.0.0.1", "--ready-fd", "77")
    process = node.spawn(Command(argv, env=env), name="tapper")
    assert process.wait() == 2
    assert "cannot write to descriptor 77: bad file descriptor (--ready-fd)" in process.read_log()
