"""`--namespace`, `--selector` and their like end to end: an API server in the node, pods that come and go, traffic.

The server answers as a recorded one did (tests/unit/support/kube_server.py); its pods have the sandbox pods' addresses.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import kube_server
import psutil
import pytest

from harness.adapters.reference import RunningTapper
from harness.mesh import fake_envoy, replay
from harness.mesh.mesh import Mesh
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import MINIMAL_ENVIRON, Command

StartTapper = Callable[..., RunningTapper]

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def played(pod: Pod, path: str, port: int) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode()
    replay.play(pod, replay.conversation(replay.inbound(pod, 8080, port), [(request, ANSWER)]))


def described(pod: Pod, **changes: Any) -> dict[str, Any]:
    return kube_server.pod(pod.name, [pod.ip, str(pod.ipv6)], **changes)


class Cluster:
    """The server in the node, and the tapper that asks it."""

    def __init__(self, node: Node, start: StartTapper) -> None:
        self._start = start
        self._commands, write_end = os.pipe2(os.O_CLOEXEC)
        self._write = os.fdopen(write_end, "w")
        argv = [sys.executable, kube_server.__file__]
        self._process = node.spawn(
            Command(argv, env=MINIMAL_ENVIRON), name="kube-server", stdout=subprocess.PIPE, stdin=self._commands
        )
        os.close(self._commands)
        self.do("begin")
        path = node.run_dir / "kubeconfig"
        path.write_text(kube_server.kubeconfig(self.do("port")))
        self._inside = node.inside(path)
        self.running: RunningTapper

    def do(self, name: str, *arguments: object) -> Any:
        """Call the server's method, or read its attribute."""
        self._write.write(json.dumps([name, *arguments]) + "\n")
        self._write.flush()
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._write.close()

    def start(self, *options: str, static: tuple[str | Pod, ...] = ()) -> RunningTapper:
        """Targets of the node `here`, in the namespace shop where the options say nothing else."""
        self.running = self._start(static, "--kubeconfig", self._inside, "--node-name", "here", *options)
        self.running.wait_capturing()
        return self.running

    def captured(self) -> set[int | str]:
        return self.running.open_sources() - {"node"}

    def wait_captured(self, *pods: Pod) -> None:
        expected = {pod.netns_inode for pod in pods}
        self.running.wait_for(lambda: self.captured() == expected, f"exactly {[pod.name for pod in pods]}")


@pytest.fixture
def cluster(node: Node, tapper: StartTapper) -> Iterator[Cluster]:
    made = Cluster(node, tapper)
    yield made
    made.close()


@pytest.fixture
def envoys(node: Node) -> tuple[Pod, Pod, Pod]:
    pods = node.pod("one"), node.pod("two"), node.pod("three")
    for pod in pods:
        fake_envoy.start(pod)
    return pods


def test_pods_come_and_go(cluster: Cluster, envoys: tuple[Pod, Pod, Pod]) -> None:
    """From nobody: a pod gets its addresses, another comes, one is over, one is deleted; records have their names."""
    one, two, three = envoys
    cluster.do("put", [kube_server.pod("one", [])], 1)
    running = cluster.start("--namespace", "shop")
    assert cluster.captured() == set()
    played(one, "/one/0", 40000)
    cluster.do("change", "MODIFIED", described(one))
    cluster.wait_captured(one)
    played(one, "/one/1", 40001)
    played(two, "/two/1", 40001)
    running.wait_targets(["/one/1"])
    cluster.do("change", "ADDED", described(two))
    cluster.wait_captured(one, two)
    played(two, "/two/2", 40002)
    running.wait_targets(["/two/2"])
    cluster.do("change", "MODIFIED", described(one, phase="Succeeded"))
    cluster.wait_captured(two)
    cluster.do("change", "ADDED", described(three))
    cluster.wait_captured(two, three)
    cluster.do("change", "DELETED", described(two))
    cluster.wait_captured(three)
    for pod in envoys:
        played(pod, f"/{pod.name}/3", 40003)
    running.wait_targets(["/three/3"])
    cluster.do("change", "DELETED", described(three))
    cluster.wait_captured()
    assert running.stop() == 0
    assert running.seen() == {"/one/1": 1, "/two/2": 1, "/three/3": 1}
    assert [record["pod"]["name"] for record in running.exchanges] == ["one", "two", "three"]
    assert not running.of_type("ack")


def test_what_is_asked(cluster: Cluster, envoys: tuple[Pod, Pod, Pod]) -> None:
    """Namespace, node and labels are the server's affair, the name the tapper's."""
    one, two, _ = envoys
    cluster.do("put", [described(one), described(two), described(envoys[2], namespace="other")], 1)
    cluster.start("--selector", "app=cart", "--pod-regex", "^(one|three)$")
    cluster.wait_captured(one)
    requests = cluster.do("requests")
    assert {path for path, _ in requests} == {"/api/v1/namespaces/shop/pods"}
    assert {(query["labelSelector"], query["fieldSelector"]) for _, query in requests} == {
        ("app=cart", "spec.nodeName=here")
    }
    assert "the namespace shop, the current one" in cluster.running.read_log()


def test_a_compacted_server_and_a_restart_lose_nothing(cluster: Cluster, envoys: tuple[Pod, Pod, Pod]) -> None:
    """While the server is away what is captured stays so, without a gap; what happened meanwhile is caught up with."""
    one, two, three = envoys
    cluster.do("put", [described(one), described(two)], 1)
    running = cluster.start("--all-namespaces")
    cluster.wait_captured(one, two)
    cluster.do("put", [described(one), described(three)], 500)
    cluster.do("forget")
    cluster.do("drop")
    cluster.wait_captured(one, three)
    cluster.do("end")
    running.wait_for(lambda: "targets of all namespaces stay as they are" in running.read_log(), "the server's absence")
    played(one, "/away", 40001)
    running.wait_targets(["/away"])
    assert cluster.captured() == {one.netns_inode, three.netns_inode}
    cluster.do("put", [described(one), described(two)], 900)
    cluster.do("begin")
    cluster.wait_captured(one, two)
    played(one, "/back", 40002)
    running.wait_targets(["/back"])
    assert running.stop() == 0
    opened = [record for record in running.of_type("source") if record["netns"] == one.netns_inode]
    assert [record["state"] for record in opened] == ["open", "closed"], "one source from beginning to end"


def test_all_of_a_meshs_traffic(mesh: Mesh, cluster: Cluster) -> None:
    """Real sidecars: from the moment that its pod is named, each request once; the neighbour's not at all."""
    client, server, neighbour = mesh.pod("client"), mesh.pod("server"), mesh.pod("neighbour")
    mesh.inject(client, server, neighbour)
    cluster.do("put", [], 1)
    running = cluster.start("--namespace", "shop")
    mesh.send(client, server, 5)
    cluster.do("change", "ADDED", described(server.pod))
    cluster.wait_captured(server.pod)
    sent = mesh.send(client, server, 100, connections=4)
    mesh.send(client, neighbour, 20)
    running.wait_targets([each.target for each in sent], pod=server.pod)
    assert running.stop() == 0
    assert running.seen(direction="inbound") == {each.target: 1 for each in sent}
    assert {record["pod"]["name"] for record in running.exchanges} == {"server"}


def test_on_top_of_other_targets(cluster: Cluster, envoys: tuple[Pod, Pod, Pod]) -> None:
    one, two, _ = envoys
    cluster.do("put", [described(two)], 1)
    cluster.start("--namespace", "shop", static=(one,))
    cluster.wait_captured(one, two)
    cluster.do("change", "DELETED", described(two))
    cluster.wait_captured(one)


@pytest.mark.parametrize("away", [False, True])
def test_the_end_is_prompt_and_nothing_is_left(cluster: Cluster, envoys: tuple[Pod, Pod, Pod], away: bool) -> None:
    """Threads and descriptors stay flat over many changes, and a thread that waits for the server holds nobody up."""
    one, two, _ = envoys
    cluster.do("put", [described(one)], 1)
    running = cluster.start("--namespace", "shop")
    cluster.wait_captured(one)
    process = psutil.Process(running.process.host_pid)
    before = process.num_threads(), process.num_fds()
    assert process.num_fds() > 3, "it is the tapper that is counted, not a thread of the kernel, which has none"
    for _ in range(10):
        cluster.do("change", "ADDED", described(two))
        cluster.wait_captured(one, two)
        cluster.do("change", "DELETED", described(two))
        cluster.wait_captured(one)
        cluster.do("finish")
    running.wait_for(
        lambda: process.num_threads() <= before[0] and process.num_fds() <= before[1],
        f"no more than {before} threads and descriptors",
    )
    if away:
        cluster.do("end")
        running.wait_for(lambda: "stay as they are" in running.read_log(), "the server's absence")
    assert running.stop(5, signal.SIGTERM) == 0
