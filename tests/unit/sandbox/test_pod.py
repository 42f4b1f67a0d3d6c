"""Pods: connected to each other over IPv4 and IPv6, and gone when they are deleted, unless somebody pins them."""

from __future__ import annotations

import re

import pytest

from harness import leaks
from harness.errors import WaitTimeout
from harness.sandbox import links
from harness.sandbox.node import Node


@pytest.mark.parametrize("ipv6", [False, True])
def test_pods_reach_each_other_under_their_own_addresses(node: Node, ipv6: bool) -> None:
    client, server = node.pod("client"), node.pod("server")
    address = str(server.ipv6 if ipv6 else server.ipv4)
    with server.listen(address, 8080) as listener, client.connect(address, 8080) as outgoing:
        incoming, peer = listener.accept()
        with incoming:
            outgoing.sendall(b"hello")
            assert incoming.recv(5) == b"hello"
        assert peer[0] == str(client.ipv6 if ipv6 else client.ipv4)


def test_a_pod_has_lo_and_eth0_only(node: Node) -> None:
    assert links.link_names(node.pod("server")) == {"lo", "eth0"}


def test_the_nodes_end_of_the_veth_is_named_after_the_pod(node: Node) -> None:
    assert node.pod("server").link == "server"
    long = node.pod("a-name-that-is-too-long-for-a-link")
    assert len(long.link) <= 15
    assert {"server", long.link} <= links.link_names(node)


def test_names_are_unique(node: Node) -> None:
    node.pod("server")
    with pytest.raises(ValueError, match="there is a pod named server"):
        node.pod("server")


def test_delete_kills_every_process_and_the_kernel_takes_the_namespace(node: Node) -> None:
    pod, neighbour = node.pod("server"), node.pod("neighbour")
    stubborn = pod.spawn(["sh", "-c", "trap '' TERM INT HUP; while :; do sleep 1000; done"])
    bystander = neighbour.spawn(["sleep", "1000"])
    pod.delete()
    assert stubborn.wait() == -9
    assert not pod.alive
    pod.wait_released()
    assert pod.link not in links.link_names(node)
    assert bystander.running


def test_a_socket_pins_the_namespace_of_a_deleted_pod(node: Node) -> None:
    pod = node.pod("server")
    pin = pod.socket()
    pod.delete()
    with pytest.raises(WaitTimeout, match="network namespace of pod server to be released"):
        pod.wait_released(timeout=0.3)
    pin.close()
    pod.wait_released()


def test_pods_that_go_leave_the_others_connected(node: Node) -> None:
    """The gateway keeps its hardware address: the neighbours that remain have it in their caches."""
    server, client = node.pod("server"), node.pod("client")
    mac = re.compile(r"link/ether (\S+)")
    before = mac.findall(node.run(["ip", "link", "show", "cni0"]))
    for number in range(6):
        node.pod(f"guest-{number}").delete()
    assert mac.findall(node.run(["ip", "link", "show", "cni0"])) == before
    with server.listen(server.ip, 8080), client.connect(server.ip, 8080, timeout=2.0):
        pass


def test_whoever_is_in_a_namespace_is_told_apart_from_a_later_process_of_that_number(node: Node) -> None:
    pod = node.pod("server")
    sleeper = pod.spawn(["sleep", "1000"])
    inside = {each.pid: each for each in leaks.processes_inside({pod.netns_inode})}
    assert inside.keys() == {pod.host_pid, sleeper.host_pid}
    holder = inside[sleeper.host_pid]
    assert holder.lives
    assert not leaks.Holder(holder.pid, "1").lives
    sleeper.stop()
    assert not holder.lives
