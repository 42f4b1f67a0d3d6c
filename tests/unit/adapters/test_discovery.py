"""`--discover` end to end: pods without an Envoy, found by what their namespaces have; and what is said of the rest."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from harness.adapters.reference import Record, RunningTapper
from harness.mesh import fake_envoy, replay
from harness.mesh.mesh import Mesh
from harness.sandbox import links
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import Command, Process
from harness.waiting import wait_until

StartTapper = Callable[..., RunningTapper]

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def played(pod: Pod, path: str, port: int = 40001) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode()
    replay.play(pod, replay.conversation(replay.inbound(pod, 8080, port), [(request, ANSWER)]))


def opened(running: RunningTapper) -> dict[int, Record]:
    """The pods' sources that were opened, each of which must have been opened once."""
    records = [each for each in running.of_type("source") if each["state"] == "open" and each["kind"] == "pod"]
    found = {record["netns"]: record for record in records}
    assert len(found) == len(records)
    return found


def proxy(pod: Pod, name: str) -> Process:
    """A process whose executable has this name, with the environment of Linkerd's proxy."""
    interpreter = os.path.realpath(sys.executable)
    directory = pod.node.run_dir / f"linkerd-{pod.name}"
    directory.mkdir()
    (directory / "pyvenv.cfg").write_text(f"home = {Path(interpreter).parent}\n")
    shutil.copy(interpreter, directory / name)
    argv = [
        pod.node.inside(directory / name),
        "-I",
        "-S",
        "-c",
        "import signal; print('up', flush=True); signal.pause()",
    ]
    process = pod.spawn(Command(argv, env={"_pod_name": pod.name, "_pod_ns": "shop"}), name=name)
    wait_until(lambda: "up" in process.read_log(), f"{name} to be up", logs=process.read_log)
    return process


def said(running: RunningTapper, *parts: str) -> list[str]:
    return [line for line in running.read_log().splitlines() if all(part in line for part in parts)]


def test_netns_needs_no_proxy(node: Node, tapper: StartTapper) -> None:
    """By either address; a pod that comes later; a pod that is no target is not."""
    first, second, stranger = node.pod("first"), node.pod("second"), node.pod("stranger")
    later = links.PodAddresses(3).ipv4
    running = tapper([first, str(second.ipv6), str(later)], "--discover", "netns", "--verify")
    running.wait_capturing(first, second)
    third = node.pod("third")
    assert third.ipv4 == later
    running.wait_capturing(third)
    for pod in (stranger, first, second, third):
        played(pod, f"/{pod.name}")
    running.wait_targets(["/first", "/second", "/third"])
    running.stop()
    assert running.seen() == {"/first": 1, "/second": 1, "/third": 1}
    sources = opened(running)
    assert set(sources) == {pod.netns_inode for pod in (first, second, third)}
    assert {(each["found_by"], each["verified"]) for each in sources.values()} == {("netns", True)}
    assert sources[second.netns_inode]["instance_ip"] == str(second.ipv6)


def test_one_source_for_a_namespace_whatever_found_it(mesh: Mesh, tapper: StartTapper) -> None:
    client, server = mesh.pod("client"), mesh.pod("server")
    mesh.inject(client, server)
    running = tapper([client.pod, server.pod], "--discover", "netns", "--discover", "linkerd", "--discover", "envoy")
    running.wait_capturing(client.pod, server.pod)
    sent = mesh.send(client, server, 10)
    running.wait_targets([each.target for each in sent], pod=client.pod)
    running.wait_targets([each.target for each in sent], pod=server.pod)
    running.stop()
    assert running.seen(direction="inbound") == running.seen(direction="outbound")
    assert running.seen(direction="inbound") == {each.target: 1 for each in sent}
    assert {each["found_by"] for each in opened(running).values()} == {"envoy"}


def test_netns_sees_through_strict_mtls_without_a_look_at_envoy(mesh: Mesh, tapper: StartTapper) -> None:
    client, server = mesh.pod("client"), mesh.pod("server")
    mesh.inject(client, server)
    running = tapper([server.pod], "--discover", "netns")
    running.wait_capturing(server.pod)
    sent = mesh.send(client, server, 5)
    running.wait_targets([each.target for each in sent], direction="inbound")
    running.stop()
    assert running.seen() == {each.target: 1 for each in sent}
    assert [each["found_by"] for each in opened(running).values()] == ["netns"]


def test_a_false_claim_finds_nothing_in_netns_mode(node: Node, tapper: StartTapper) -> None:
    server, outsider = node.pod("server"), node.pod("outsider")
    fake_envoy.start(outsider, instance_ip=server.ip)
    running = tapper([server], "--discover", "netns")
    running.wait_capturing(server)
    played(outsider, "/outsider")
    played(server, "/server")
    running.wait_targets(["/server"])
    running.stop()
    assert running.seen() == {"/server": 1}


def test_a_dead_pod_found_by_its_namespace_is_let_go(node: Node, tapper: StartTapper) -> None:
    pod, other = node.pod("server"), node.pod("other")
    running = tapper([pod, other], "--discover", "netns")
    running.wait_capturing(pod, other)
    pod.delete()
    pod.wait_released()
    played(other, "/still-here")
    running.wait_targets(["/still-here"])
    running.stop()


def test_the_nodes_own_lo_is_nobodys_pod(node: Node, tapper: StartTapper) -> None:
    """A host-network pod has the node's address: its lo would show every process of the node. Said once."""
    pod = node.pod("server")
    running = tapper([pod, str(links.GATEWAY4)], "--discover", "netns")
    running.wait_capturing(pod)
    played(pod, "/canary")
    running.wait_targets(["/canary"])
    running.stop()
    assert set(opened(running)) == {pod.netns_inode}
    assert len(said(running, f"{links.GATEWAY4} is the node's own address")) == 1


def test_linkerds_proxy(node: Node, tapper: StartTapper) -> None:
    """Whose it is, its namespace says. Look-alikes and other pods' proxies are left alone."""
    meshed, stranger, lookalike = node.pod("meshed"), node.pod("stranger"), node.pod("lookalike")
    found = proxy(meshed, "linkerd2-proxy")
    proxy(stranger, "linkerd2-proxy")
    proxy(lookalike, "linkerd2-proxy-identity")
    running = tapper([meshed, lookalike], "--discover", "linkerd")
    running.wait_capturing(meshed)
    for pod in (stranger, lookalike, meshed):
        played(pod, f"/{pod.name}")
    running.wait_targets(["/meshed"])
    running.stop()
    assert running.seen() == {"/meshed": 1}
    (source,) = opened(running).values()
    assert (source["pid"], source["found_by"], source["verified"]) == (found.pid, "linkerd", True)
    assert source["instance_ip"] == meshed.ip


def test_linkerd_is_not_looked_for_unasked(node: Node, tapper: StartTapper) -> None:
    meshed, canary = node.pod("meshed"), node.pod("canary")
    proxy(meshed, "linkerd2-proxy")
    fake_envoy.start(canary)
    running = tapper([meshed, canary])
    running.wait_capturing(canary)
    running.stop()
    assert set(opened(running)) == {canary.netns_inode}


def test_a_target_that_cannot_be_seen_is_told_once_with_the_reason(node: Node, tapper: StartTapper) -> None:
    plain, late, other = node.pod("plain"), node.pod("late"), node.pod("other")
    fake_envoy.start(other)
    running = tapper([plain, late, "10.9.9.9", str(other.ipv6)])
    running.wait_capturing()
    fake_envoy.start(late)
    running.wait_capturing(late)  # so there was another look, which says nothing again
    running.stop()
    (line,) = said(running, f"INSTANCE_IP {plain.ip} ")
    assert f"no sidecar in its network namespace {plain.netns_inode}" in line
    (line,) = said(running, "INSTANCE_IP 10.9.9.9 ")
    assert "no network namespace here that has this address" in line
    (line,) = said(running, f"INSTANCE_IP {other.ipv6} ")
    assert "has an Envoy that claims another" in line


def test_another_address_of_a_captured_pod_is_not_missed(node: Node, tapper: StartTapper) -> None:
    pod, plain = node.pod("server"), node.pod("plain")
    fake_envoy.start(pod)
    running = tapper([pod, str(pod.ipv6), plain])
    running.wait_capturing(pod)
    running.wait_for(lambda: said(running, plain.ip), "the plain pod")
    running.stop()
    assert said(running, str(pod.ipv6)) == []


def test_descriptors_stay_flat_with_netns(node: Node, tapper: StartTapper) -> None:
    """Pods come and go, targets and others; nothing is held of any that is gone."""
    running = tapper([str(links.PodAddresses(number).ipv4) for number in range(0, 12, 2)], "--discover", "netns")
    running.wait_capturing()
    process = psutil.Process(running.process.host_pid)

    def come_and_go(number: int) -> None:
        pod, other = node.pod(f"pod-{number}"), node.pod(f"other-{number}")
        running.wait_capturing(pod)
        for each in (pod, other):
            each.delete()
            each.wait_released()
        running.wait_for(lambda: pod.netns_inode not in running.open_sources(), "the end of its source")

    come_and_go(0)
    before = process.num_fds(), process.num_threads()
    for number in range(1, 6):
        come_and_go(number)
    assert (process.num_fds(), process.num_threads()) == before
    running.stop()
