"""The addresses of a namespace: the bytes of netlink's answers, and what the kernel says of a real namespace."""

from __future__ import annotations

import errno
import json
import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.adapters.reference import TAPPER_ENVIRON
from harness.sandbox import links
from harness.sandbox.node import Node
from harness.sandbox.process import Command
from tapper.namespaces import netlink
from tapper.namespaces.contents import IFA_ADDRESS, IFA_LOCAL, RTM_GETADDR, RTM_NEWADDR, address_of
from tapper.namespaces.netlink import NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, Message, dump, messages


def message(kind: int, payload: bytes, flags: int = 0) -> bytes:
    raw = struct.pack("=IHHII", 16 + len(payload), kind, flags, 1, 0) + payload
    return raw + bytes(-len(raw) % 4)


def body(family: int, *attributes: tuple[int, bytes]) -> bytes:
    return struct.pack("=BBBBI", family, 24, 0, 0, 2) + b"".join(netlink.attribute(*pair) for pair in attributes)


V4, V4_FAR, V6 = (ip_address(text) for text in ("10.0.0.1", "10.0.0.9", "fd00::1"))
DONE = message(NLMSG_DONE, bytes(4))
LABEL = (3, b"eth0\0")  # IFA_LABEL, whose length is no multiple of 4
ONE = message(RTM_NEWADDR, body(2, (IFA_ADDRESS, V4.packed), LABEL))
OTHER = message(RTM_NEWADDR, body(10, LABEL, (IFA_ADDRESS, V6.packed)))


def test_addresses_of_both_families() -> None:
    assert [address_of(each.body) for each in messages(ONE + OTHER)] == [V4, V6]


def test_the_near_end_of_a_tunnel_counts() -> None:
    assert address_of(body(2, (IFA_ADDRESS, V4_FAR.packed), (IFA_LOCAL, V4.packed))) == V4


@pytest.mark.parametrize("other", [body(7, (IFA_ADDRESS, V4.packed)), body(2, (IFA_ADDRESS, V6.packed)), body(2)])
def test_other_families_and_widths_are_left_out(other: bytes) -> None:
    assert address_of(other) is None


@given(st.binary(max_size=60), st.integers(0, 60))
def test_no_bytes_do_worse_than_an_os_error(noise: bytes, cut: int) -> None:
    """Neither noise nor a cut answer hangs or gives an address that was not in it."""
    for raw in (noise, ONE[:cut], ONE + noise, message(RTM_NEWADDR, noise)):
        try:
            found = [address_of(each.body) for each in messages(raw)]
        except OSError as error:
            if error.errno != errno.EBADMSG:
                raise
            continue
        assert all(each is None or each.packed in raw for each in found)


class Kernel:
    """Answers that wait to be read."""

    def __init__(self) -> None:
        self.ours, self._kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    def answers(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self._kernel.send(datagram)

    def requests(self) -> list[Message]:
        found: list[Message] = []
        while True:
            try:
                found += messages(self._kernel.recv(1000, socket.MSG_DONTWAIT))
            except BlockingIOError:
                return found

    def close(self) -> None:
        self.ours.close()
        self._kernel.close()


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    played = Kernel()
    yield played
    played.close()


def test_a_dump_is_read_to_its_end(kernel: Kernel) -> None:
    kernel.answers(ONE, OTHER + DONE)
    assert [address_of(each) for each in dump(kernel.ours, RTM_GETADDR, bytes(8))] == [V4, V6]
    (request,) = kernel.requests()
    assert (request.kind, request.flags, request.body) == (RTM_GETADDR, 0x301, bytes(8))


def test_an_interrupted_dump_is_asked_for_again(kernel: Kernel) -> None:
    """The list changed during the dump, so addresses may be missing; the last message alone may have the flag."""
    kernel.answers(ONE + message(NLMSG_DONE, bytes(4), NLM_F_DUMP_INTR), ONE + OTHER + DONE)
    assert len(dump(kernel.ours, RTM_GETADDR, bytes(8))) == 2
    assert len(kernel.requests()) == 2


def test_a_dump_that_is_always_interrupted_ends(kernel: Kernel) -> None:
    kernel.answers(*[message(NLMSG_DONE, bytes(4), NLM_F_DUMP_INTR)] * 9)
    with pytest.raises(BlockingIOError, match="they keep changing"):
        dump(kernel.ours, RTM_GETADDR, bytes(8))


def test_a_dump_that_is_too_large_ends(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netlink, "MOST_MESSAGES", 3)
    kernel.answers(ONE + ONE + ONE, ONE)
    with pytest.raises(OSError, match="more than 3 of them") as caught:
        dump(kernel.ours, RTM_GETADDR, bytes(8))
    assert caught.value.errno == errno.EOVERFLOW


@pytest.mark.parametrize("kind", [NLMSG_ERROR, NLMSG_DONE])
def test_the_kernels_refusal_is_an_os_error(kernel: Kernel, kind: int) -> None:
    kernel.answers(message(kind, struct.pack("=i", -errno.EPERM) + bytes(16)))
    with pytest.raises(PermissionError):
        dump(kernel.ours, RTM_GETADDR, bytes(8))


ASKS = """
import json, sys
from tapper.follow.addresses import NamespaceAddresses
from tapper.namespaces.contents import own_addresses
from tapper.namespaces.identity import namespace_of
from tapper.discovery.procfs import Procfs

procfs = Procfs()
addresses = NamespaceAddresses(procfs)
places = {namespace_of(procfs.namespace_path(pid)): [2**22, pid] for pid in map(int, sys.argv[1:])}
errors = addresses.refresh(places)
answers = [sorted(map(str, addresses.known(netns))) for netns in places]
print(json.dumps({"pods": answers, "errors": len(errors), "own": sorted(map(str, own_addresses()))}))
"""


def test_what_a_namespace_has(node: Node) -> None:
    """Its own addresses alone; neither loopback nor link-local ones, which every namespace has. The first process by
    which to enter does not exist.

    Asked from inside the node, where an ordinary user has the right to enter namespaces, too.
    """
    pods = [node.pod("one"), node.pod("other")]
    argv = [sys.executable, "-c", ASKS, *(str(pod.pause_pid) for pod in pods)]
    said = json.loads(node.run(Command(argv, env=TAPPER_ENVIRON)))
    assert said["pods"] == [sorted([pod.ip, str(pod.ipv6)]) for pod in pods]
    assert said["errors"] == 0
    assert said["own"] == sorted([str(links.GATEWAY4), str(links.GATEWAY6)])
