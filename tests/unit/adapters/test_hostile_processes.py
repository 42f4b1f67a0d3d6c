"""Processes of a pod that nobody asked for, which try to end or to deceive the tapper by what procfs says of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.adapters.reference import Record, RunningTapper
from harness.conformance.attackers import gigantic_environment
from harness.mesh import fake_envoy, replay
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import MINIMAL_ENVIRON, Command
from harness.waiting import wait_until

StartTapper = Callable[..., RunningTapper]

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def played(pod: Pod, path: str, port: int = 40001) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode()
    replay.play(pod, replay.conversation(replay.inbound(pod, 8080, port), [(request, ANSWER)]))


def peak_memory(pid: int) -> int:
    """The most memory that a process has had resident, in bytes (VmHWM, proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:"))


def test_an_environment_of_gigabytes_is_refused_and_costs_nothing(node: Node, tapper: StartTapper) -> None:
    server, hostile = node.pod("server"), node.pod("hostile")
    fake_envoy.start(server)
    running = tapper([server])
    running.wait_capturing(server)
    gigantic_environment(hostile)
    wait_until(lambda: "larger than execve(2) allows" in running.read_log(), "its refusal", logs=running.read_log)
    played(server, "/after")
    running.wait_targets(["/after"], pod=server)
    peak = peak_memory(running.process.host_pid)
    running.stop()
    assert peak < 200 << 20, "the tapper read what it refused"
    said = [line for line in running.read_log().splitlines() if "larger than" in line]
    assert len(said) == 1, said


def forged(node: Node, pod: Pod, address: str, count: int = 1) -> None:
    """A process of a pod without any right makes user and network namespaces, gives each an address, and runs a program
    named envoy there."""
    folder = node.run_dir / "forged"
    folder.mkdir()
    shutil.copy(shutil.which("sleep") or "/bin/sleep", folder / "envoy")
    inside = f"ip link set lo up && ip address add {address}/32 dev lo && exec {node.inside(folder / 'envoy')} 1000"
    shell = f"for n in $(seq {count}); do unshare --user --map-root-user --net sh -c '{inside}' & done; wait"
    pod.spawn(Command(["sh", "-c", shell], env=MINIMAL_ENVIRON | {"INSTANCE_IP": address}))


def opened(running: RunningTapper) -> list[Record]:
    """The pods' sources, in the order in which they were opened."""
    return [each for each in running.of_type("source") if each["state"] == "open" and each["kind"] == "pod"]


def test_an_address_in_a_user_namespace_of_a_pods_own_proves_nothing(node: Node, tapper: StartTapper) -> None:
    server, hostile = node.pod("server"), node.pod("hostile")
    fake_envoy.start(server)
    running = tapper([server])
    running.wait_capturing(server)
    forged(node, hostile, server.ip)
    running.wait_for(lambda: len(opened(running)) == 2, "the forged pod")
    running.stop()
    assert [record["verified"] for record in opened(running)] == [True, False]
    assert "was made in a user namespace" in running.read_log()


@pytest.mark.parametrize("options", [["--verify"], ["--discover", "netns"]])
def test_a_forged_pod_is_refused(node: Node, tapper: StartTapper, options: list[str]) -> None:
    """The pod itself and one that begins later are captured, so there were further looks."""
    server, hostile, late = node.pod("server"), node.pod("hostile"), node.pod("late")
    fake_envoy.start(server)
    running = tapper([server, late], *options)
    running.wait_capturing(server)
    forged(node, hostile, server.ip)
    wait_until(lambda: "was made in a user namespace" in running.read_log(), "its refusal", logs=running.read_log)
    fake_envoy.start(late)
    running.wait_capturing(late)
    running.stop()
    assert {record["netns"] for record in opened(running)} == {server.netns_inode, late.netns_inode}


def test_forged_pods_are_few_and_keep_no_real_one_out(node: Node, tapper: StartTapper) -> None:
    """However many a process makes, four of one address are captured. The real pod begins after them."""
    server, hostile = node.pod("server"), node.pod("hostile")
    running = tapper([server])
    forged(node, hostile, server.ip, count=8)
    wait_until(lambda: "too many claim its address" in running.read_log(), "the refusal", logs=running.read_log)
    fake_envoy.start(server)
    running.wait_capturing(server)
    running.stop()
    assert len(opened(running)) == 5
    assert opened(running)[-1]["verified"] is True
    assert len(running.read_log().splitlines()) < 30


@pytest.mark.parametrize("verify", [True, False])
def test_of_two_pods_with_one_address_the_second_one_is_in_doubt(node: Node, tapper: StartTapper, verify: bool) -> None:
    server, thief, late = node.pod("server"), node.pod("thief"), node.pod("late")
    fake_envoy.start(server)
    running = tapper([server, late], *(["--verify"] if verify else []))
    running.wait_capturing(server)
    thief.run(Command(["ip", "address", "add", f"{server.ip}/32", "dev", "lo"]))
    fake_envoy.start(thief, instance_ip=server.ip)
    wait_until(lambda: "has the same address" in running.read_log(), "the doubt", logs=running.read_log)
    fake_envoy.start(late)
    running.wait_capturing(late)
    running.stop()
    verified = {record["netns"]: record["verified"] for record in opened(running)}
    assert verified.pop(server.netns_inode) is True
    assert verified.pop(late.netns_inode) is True
    assert verified == ({} if verify else {thief.netns_inode: False})
    assert f"(pid {opened(running)[0]['pid']}) is captured, although it is in doubt" in running.read_log()
