"""Verified identity end to end: whom the tapper believes, and what it says about whom it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import harness
from harness.adapters.reference import Record, RunningTapper, tapper_argv
from harness.mesh import fake_envoy, replay
from harness.mesh.mesh import Mesh
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import MINIMAL_ENVIRON, Command

StartTapper = Callable[..., RunningTapper]

_ENVIRON = MINIMAL_ENVIRON | {"PYTHONPATH": str(Path(harness.__file__).parents[1])}
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def played(pod: Pod, path: str, port: int = 40001) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode()
    replay.play(pod, replay.conversation(replay.inbound(pod, 8080, port), [(request, ANSWER)]))


def opened(running: RunningTapper, pod: Pod) -> Record:
    (record,) = [
        each for each in running.of_type("source") if each["state"] == "open" and each["netns"] == pod.netns_inode
    ]
    return record


def complaints(running: RunningTapper, address: str) -> list[str]:
    return [line for line in running.read_log().splitlines() if f"the pod {address} " in line]


def test_a_real_sidecar_is_verified(mesh: Mesh, tapper: StartTapper) -> None:
    client, server = mesh.pod("client"), mesh.pod("server")
    mesh.inject(client, server)
    running = tapper([server.pod], "--verify")
    running.wait_capturing(server.pod)
    sent = mesh.send(client, server, 3)
    running.wait_targets([each.target for each in sent], direction="inbound")
    running.stop()
    assert opened(running, server.pod)["verified"] is True
    assert complaints(running, server.ip) == []


def test_a_false_claim_is_captured_with_one_warning(node: Node, tapper: StartTapper) -> None:
    server, outsider = node.pod("server"), node.pod("outsider")
    fake_envoy.start(server)
    fake = fake_envoy.start(outsider, instance_ip=server.ip)
    running = tapper([server])
    running.wait_capturing(server, outsider)
    played(outsider, "/outsider")
    played(server, "/server")
    running.wait_targets(["/outsider", "/server"], pod=server)
    running.stop()
    assert opened(running, server)["verified"] is True
    assert opened(running, outsider)["verified"] is False
    (line,) = complaints(running, server.ip)
    assert f"(pid {fake.pid}) is captured unverified" in line
    assert f"does not have the address of its INSTANCE_IP, but {outsider.ip}, {outsider.ipv6}" in line


def test_a_false_claim_is_refused_with_verify(node: Node, tapper: StartTapper) -> None:
    """Said once however often it is looked at; the pod itself is the canary, and a later honest Envoy another."""
    server, outsider, late = node.pod("server"), node.pod("outsider"), node.pod("late")
    fake_envoy.start(server)
    fake = fake_envoy.start(outsider, instance_ip=server.ip)
    running = tapper([server, late], "--verify")
    running.wait_capturing(server)
    fake_envoy.start(late)
    running.wait_capturing(late)  # so there was another look
    played(outsider, "/outsider")
    played(server, "/server")
    played(late, "/late")
    running.wait_targets(["/server", "/late"])
    running.stop()
    assert running.seen() == {"/server": 1, "/late": 1}
    assert outsider.netns_inode not in {record["netns"] for record in running.of_type("source")}
    (line,) = complaints(running, server.ip)
    assert f"(pid {fake.pid}) is not captured (--verify)" in line


def test_a_false_claim_on_the_node_itself_is_refused(node: Node, tapper: StartTapper) -> None:
    """A host-network Envoy that names a pod; the pod's own Envoy is the canary."""
    pod = node.pod("server")
    fake_envoy.start(pod)
    fake = fake_envoy.start(node, instance_ip=pod.ip)
    running = tapper([pod], "--verify")
    running.wait_capturing(pod)
    played(pod, "/server")
    running.wait_targets(["/server"])
    running.stop()
    assert [record["netns"] for record in running.of_type("source") if record["kind"] == "pod"] == [
        pod.netns_inode,
        pod.netns_inode,
    ]
    (line,) = complaints(running, pod.ip)
    assert f"(pid {fake.pid})" in line


def test_a_secondary_address_is_the_pods_own(node: Node, tapper: StartTapper) -> None:
    pod = node.pod("server")
    fake_envoy.start(pod, instance_ip=str(pod.ipv6))
    running = tapper([str(pod.ipv6)], "--verify")
    running.wait_capturing(pod)
    played(pod, "/v6")
    running.wait_targets(["/v6"])
    running.stop()
    assert opened(running, pod)["verified"] is True


def test_discover_shows_claims_beside_what_is_owned(node: Node) -> None:
    server, outsider = node.pod("server"), node.pod("outsider")
    honest, liar = fake_envoy.start(server), fake_envoy.start(outsider, instance_ip=server.ip)
    output = node.run(Command(tapper_argv("discover", "-o", "ndjson"), env=_ENVIRON))
    told = {record["pid"]: record for record in map(json.loads, output.splitlines())}
    assert told[honest.pid]["owned"] == [server.ip, str(server.ipv6)]
    assert told[liar.pid]["owned"] == [outsider.ip, str(outsider.ipv6)]
    assert (told[honest.pid]["verified"], told[honest.pid]["reason"]) == (True, None)
    assert told[liar.pid]["verified"] is False
    assert told[liar.pid]["reason"] == "its network namespace does not have that address"
    table = node.run(Command(tapper_argv("discover"), env=_ENVIRON))
    (row,) = [line for line in table.splitlines() if line.startswith(f"{liar.pid} ")]
    assert row.split()[2:4] == [server.ip, f"{outsider.ip},{outsider.ipv6}"]


def test_discover_without_the_right_to_ask_says_so(node: Node) -> None:
    pod = node.pod("server")
    fake = fake_envoy.start(pod)
    argv = ["setpriv", "--bounding-set=-sys_admin", *tapper_argv("discover")]
    output = node.run(Command(argv, env=_ENVIRON))
    assert "claims of addresses are not checked" in output
    assert "CAP_SYS_ADMIN" in output
    (row,) = [line for line in output.splitlines() if line.startswith(f"{fake.pid} ")]
    assert row.split()[2:4] == [pod.ip, "?"]
