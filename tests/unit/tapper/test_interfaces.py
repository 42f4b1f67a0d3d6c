"""RTM_GETADDR: the answer's bytes, and what the kernel says of a real namespace."""

from __future__ import annotations

import errno
import json
import struct
import sys
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.adapters.reference import TAPPER_ENVIRON
from harness.sandbox import links
from harness.sandbox.node import Node
from harness.sandbox.process import Command
from tapper.namespaces.addresses import (
    IFA_ADDRESS,
    IFA_LOCAL,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    RTM_NEWADDR,
    Part,
    parse,
)


def message(kind: int, payload: bytes, flags: int = 0) -> bytes:
    raw = struct.pack("=IHHII", 16 + len(payload), kind, flags, 1, 0) + payload
    return raw + bytes(-len(raw) % 4)


def address(family: int, *attributes: tuple[int, bytes], flags: int = 0) -> bytes:
    body = struct.pack("=BBBBI", family, 24, 0, 0, 2)
    for kind, value in attributes:
        raw = struct.pack("=HH", 4 + len(value), kind) + value
        body += raw + bytes(-len(raw) % 4)
    return message(RTM_NEWADDR, body, flags)


V4, V4_FAR, V6 = (ip_address(text) for text in ("10.0.0.1", "10.0.0.9", "fd00::1"))
DONE = message(NLMSG_DONE, bytes(4))
LABEL = (3, b"eth0\0")  # IFA_LABEL, whose length is no multiple of 4


def test_addresses_of_both_families_to_the_end() -> None:
    part = parse(address(2, (IFA_ADDRESS, V4.packed), LABEL) + address(10, LABEL, (IFA_ADDRESS, V6.packed)) + DONE)
    assert part == Part(frozenset({V4, V6}), True, False)
    assert parse(address(2, (IFA_ADDRESS, V4.packed))) == Part(frozenset({V4}), False, False)


def test_the_near_end_of_a_tunnel_counts() -> None:
    assert parse(address(2, (IFA_ADDRESS, V4_FAR.packed), (IFA_LOCAL, V4.packed))).addresses == {V4}


def test_other_families_and_widths_are_left_out() -> None:
    assert parse(address(7, (IFA_ADDRESS, V4.packed)) + address(2, (IFA_ADDRESS, V6.packed))).addresses == frozenset()


def test_an_interrupted_dump_is_said_to_be_one() -> None:
    assert parse(address(2, (IFA_ADDRESS, V4.packed), flags=NLM_F_DUMP_INTR)).interrupted


def test_the_kernels_refusal_is_an_os_error() -> None:
    with pytest.raises(PermissionError) as caught:
        parse(message(NLMSG_ERROR, struct.pack("=i", -errno.EPERM) + bytes(16)))
    assert caught.value.errno == errno.EPERM


@given(st.binary(max_size=60), st.integers(0, 60))
def test_no_bytes_do_worse_than_a_value_error(noise: bytes, cut: int) -> None:
    """Neither noise nor a cut answer hangs or gives an address that was not in it."""
    for raw in (noise, address(2, (IFA_ADDRESS, V4.packed), LABEL)[:cut], address(2) + noise, message(20, noise)):
        try:
            found = parse(raw).addresses
        except (ValueError, OSError):
            continue
        assert all(each.packed in raw for each in found)


ASKS = """
import json, sys
from tapper.follow.owners import owned_by
from tapper.namespaces.addresses import own_addresses
from tapper.namespaces.identity import namespace_of
from tapper.discovery.procfs import Procfs

procfs, told = Procfs(), []
places = [(pid, namespace_of(procfs.namespace_path(pid))) for pid in map(int, sys.argv[1:])]
owned = owned_by(procfs, [*places, (2**22, places[0][1])], told.append)
answers = [sorted(map(str, owned[netns])) for _, netns in places]
print(json.dumps({"pods": answers, "told": told, "own": sorted(map(str, own_addresses()))}))
"""


def test_what_a_namespace_has(node: Node) -> None:
    """Its own addresses and nobody else's; neither loopback nor link-local ones, which every namespace has.

    Asked from inside the node, where an ordinary user has the right to enter namespaces, too.
    """
    pods = [node.pod("one"), node.pod("other")]
    argv = [sys.executable, "-c", ASKS, *(str(pod.pause_pid) for pod in pods)]
    said = json.loads(node.run(Command(argv, env=TAPPER_ENVIRON)))
    assert said["pods"] == [sorted([pod.ip, str(pod.ipv6)]) for pod in pods]
    assert said["told"] == []
    assert said["own"] == sorted([str(links.GATEWAY4), str(links.GATEWAY6)])
