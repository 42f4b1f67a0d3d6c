"""A change is told though it was taken back, and in words; what nobody changes is not told."""

from __future__ import annotations

import ctypes
import fcntl
import re
import socket
import struct
from collections.abc import Iterator

import pytest

from harness.conformance import state, truth
from harness.conformance.audit.changes import Changes
from harness.mesh import delivery
from harness.sandbox.links import features
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod

_SIOCETHTOOL, _GGRO, _SGRO = 0x8946, 0x2B, 0x2C  # linux/sockios.h, linux/ethtool.h


@pytest.fixture(scope="module")
def pods() -> Iterator[tuple[Pod, Pod]]:
    """One that is changed, and another; all their links are up."""
    with Node() as node:
        pods = node.pod("server"), node.pod("neighbour")
        for pod in pods:
            delivery.outfit(pod)
        for place in (node, *pods):
            state.wait_settled(place)
        yield pods


@pytest.mark.parametrize(
    ("commands", "told"),
    [
        ("ip link set eth0 mtu 1400; ip link set eth0 mtu 1500", r"link eth0: mtu was 1500, and became 1400"),
        ("ip address add 192.0.2.1/32 dev lo; ip address del 192.0.2.1/32 dev lo", r"address 192\.0\.2\.1/32 on lo"),
        ("ip route add 192.0.2.0/24 dev eth0; ip route del 192.0.2.0/24", r"route 192\.0\.2\.0/24 on eth0 .*was set"),
        ("ip rule add from 192.0.2.1 table 7; ip rule del table 7", r"routing rule 32765 from 192\.0\.2\.1 to every"),
        (
            "tc qdisc add dev eth0 root pfifo; tc qdisc del dev eth0 root",
            r"queueing discipline pfifo on eth0 .*was set",
        ),
        ("iptables-nft -t nat -A INPUT -j ACCEPT; iptables-nft -t nat -D INPUT -j ACCEPT", r"nftables rule made"),
        ("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv4/ip_forward", r"ip_forward was written"),
    ],
)
def test_what_is_changed_and_changed_back_is_told(pods: tuple[Pod, Pod], commands: str, told: str) -> None:
    changed, other = pods
    with Changes(changed) as changes, Changes(other) as quiet:
        before = state.snapshot(changed)
        changed.run(["sh", "-c", commands])
        assert state.differences(before, state.snapshot(changed)) == []
        found = changes.in_words()
        assert re.search(told, "; ".join(found)), found
        assert quiet.in_words() == []
        assert changes.promiscuous_links() == set()


def test_an_offload_that_is_switched_is_told_and_is_in_the_snapshot(pods: tuple[Pod, Pod]) -> None:
    pod, _ = pods
    with Changes(pod) as changes, pod.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        before, known = state.snapshot(pod), features(pod, "eth0")
        was = _gro(sock, _GGRO)
        _gro(sock, _SGRO, 1 - was)
        assert features(pod, "eth0") != known
        assert any(
            "link eth0: features (offloads) was" in each for each in state.differences(before, state.snapshot(pod))
        )
        _gro(sock, _SGRO, was)
        assert changes.in_words() == ["link eth0: its features (offloads) changed"]


def _gro(sock: socket.socket, command: int, value: int = 0) -> int:
    """Generic receive offload of eth0: struct ethtool_value."""
    data = ctypes.create_string_buffer(struct.pack("=II", command, value), 8)
    fcntl.ioctl(sock, _SIOCETHTOOL, struct.pack("16sP16x", b"eth0", ctypes.addressof(data)))
    return int.from_bytes(data.raw[4:8], "little") if command == _GGRO else value


def test_promiscuous_mode_is_noted_apart(pods: tuple[Pod, Pod]) -> None:
    pod, _ = pods
    with Changes(pod) as changes:
        pod.run(["sh", "-c", "ip link set eth0 promisc on; ip link set eth0 promisc off"])
        assert changes.promiscuous_links() == {"eth0"}
        assert changes.in_words() == []


def test_traffic_is_no_change(pods: tuple[Pod, Pod]) -> None:
    with Changes(pods[0]) as changes, Changes(pods[0].node) as of_node:
        truth.deliver(pods[0], 3)
        truth.ask(pods[0], ("10.96.77.10", 80), 3)
        assert changes.in_words() == of_node.in_words() == []


def test_a_snapshot_speaks_in_words(pods: tuple[Pod, Pod]) -> None:
    pod, _ = pods
    before = state.snapshot(pod)
    pod.run(
        ["sh", "-c", "ip address add 192.0.2.9/32 dev lo; ip link set lo txqueuelen 7; iptables -A INPUT -j ACCEPT"]
    )
    try:
        told = state.differences(before, state.snapshot(pod))
    finally:
        pod.run(
            [
                "sh",
                "-c",
                "ip address del 192.0.2.9/32 dev lo; ip link set lo txqueuelen 1000; iptables -D INPUT -j ACCEPT",
            ]
        )
    assert "link lo: txqlen was 1000, and became 7" in told
    assert "iptables, table filter, -A INPUT -j ACCEPT is new" in told
    assert any(each.startswith("address 192.0.2.9/32 on lo") and each.endswith("is new") for each in told)
    assert not any("[" in each or "'" in each for each in told)
