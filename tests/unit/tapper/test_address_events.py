"""The kernel's word of new addresses: heard of pods, whose namespaces it does not keep alive."""

from __future__ import annotations

import contextlib
import socket
import struct
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from harness.sandbox.node import Node
from harness.waiting import wait_until
from tapper.discovery.address_events import AddressEvents
from tapper.targets.addresses import Address


def message(address: bytes) -> bytes:
    body = struct.pack("=BBBBI", 2 if len(address) == 4 else 10, 24, 0, 0, 2)
    body += struct.pack("=HH", 4 + len(address), 1) + address
    return struct.pack("=IHHII", 16 + len(body), 20, 0, 0, 0) + body


def test_what_was_given() -> None:
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    events = AddressEvents(ours)
    try:
        assert events.addresses() == set()
        kernel.send(message(bytes((10, 0, 0, 1))) + message(bytes(15) + b"\x09"))
        kernel.send(message(bytes((10, 0, 0, 2))))
        assert events.addresses() == {ip_address("10.0.0.1"), ip_address("10.0.0.2"), ip_address("::9")}
        kernel.send(message(bytes((10, 0, 0, 1)))[:-1])
        assert events.addresses() is None
    finally:
        events.close()
        kernel.close()


@given(st.binary(max_size=80))
def test_any_bytes_are_read(noise: bytes) -> None:
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    events = AddressEvents(ours)
    try:
        kernel.send(noise)
        with contextlib.suppress(OSError):  # noise may say that the kernel refuses
            events.addresses()
    finally:
        events.close()
        kernel.close()


def test_pods_are_heard_of_and_not_held(node: Node) -> None:
    """The socket is made in the node as `subscribe` makes it; the pod comes later, and goes while it is open."""
    netlink = node.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    netlink.setsockopt(270, 8, 1)
    netlink.bind((0, 0x110))
    events = AddressEvents(netlink)
    try:
        pod = node.pod("server")
        seen: set[Address] = set()

        def heard() -> bool:
            seen.update(events.addresses() or ())
            return pod.ipv4 in seen and pod.ipv6 in seen

        wait_until(heard, "the pod's addresses")
        pod.delete()
        pod.wait_released()
    finally:
        events.close()
