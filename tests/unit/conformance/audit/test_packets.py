"""A frame that neither the kit nor the kernel has sent is found, in words; the kit's own and the kernel's are not."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from harness.conformance import state, truth
from harness.conformance.audit import packets
from harness.mesh import delivery, replay
from harness.sandbox.frames import Frame
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod

_MAC = bytes.fromhex("020000000099")


@pytest.fixture(scope="module")
def pod() -> Iterator[Pod]:
    with Node() as node:
        pod = node.pod("server")
        delivery.outfit(pod)
        state.wait_settled(pod)
        yield pod


def _send(pod: Pod, link: str, frame: bytes) -> None:
    with pod.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind((link, 0))
        sock.send(frame)


def _connections(sent: list[truth.Sent]) -> set[packets.Connection]:
    return {frozenset((str(each.src), str(each.dst))) for each in sent}


def test_the_kits_and_the_kernels_packets_are_no_others(pod: Pod) -> None:
    node = pod.node
    assert isinstance(node, Node)
    before = packets.announced(pod, node)
    with packets.watch(pod) as watch, packets.watch(node) as of_node:
        late = node.pod("late")
        state.wait_settled(late)  # the kernel announces new links
        sent = truth.deliver(pod, 3) + truth.deliver(pod, 3, ipv6=True)
        frames, on_node = list(watch.frames), list(of_node.frames)
        kernels = packets.announced(pod, node, late) - before
        assert {each.link for each in on_node} >= {"late"}
        assert len([each for each in frames if each.link == "lo"]) > 20
        assert packets.foreign(frames, _connections(sent), kernels) == []
        assert packets.foreign(on_node, set(), kernels) == []
        assert packets.foreign(frames, set(), kernels) != []
        assert packets.foreign(on_node, set(), {}) != [], "the canary: there were announcements"


ARP = b"\xff" * 6 + _MAC + b"\x08\x06" + b"\0\1\x08\0\6\4\0\1" + _MAC + bytes(10) + bytes((10, 244, 0, 1))
ADVERTISEMENT = (  # ICMPv6 of type 136, which a pod sends only when it is asked
    b"\x33\x33\0\0\0\1" + _MAC + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, 8, 58, 255)
    + bytes(15) + b"\2" + b"\xff\2" + bytes(13) + b"\1" + b"\x88" + bytes(7)
)  # fmt: skip


def _icmpv6(sender: bytes, kind: int) -> bytes:
    """An ICMPv6 message without a checksum, from the unspecified address to all nodes."""
    header = struct.pack("!IHBB", 6 << 28, 8, 58, 255) + bytes(16) + b"\xff\2" + bytes(13) + b"\1"
    return b"\x33\x33\0\0\0\1" + sender + b"\x86\xdd" + header + bytes((kind,)) + bytes(7)


@pytest.mark.parametrize("kind", [132, 133, 143])
def test_an_announcement_more_than_the_kernel_has_counted_is_foreign(kind: int) -> None:
    announcement = (_MAC.hex(":"), f"ICMPv6 {kind}")
    frames = [Frame(0, _icmpv6(_MAC, kind), link=link) for link in ("eth0", "cni0", "eth0")]
    assert packets.foreign(frames, set(), {announcement: 2}) == []
    assert packets.foreign(frames, set(), {announcement: 1}) == [f"ICMPv6 of type {kind} to ff02::1 on eth0"]
    assert packets.foreign(frames, set(), {("02:00:00:00:00:01", f"ICMPv6 {kind}"): 2}) != []


def test_the_kernel_solicits_no_neighbour_for_its_own_address() -> None:
    """Duplicate address detection is off in a node, so that such a solicitation is somebody else's."""
    frame = Frame(0, _icmpv6(_MAC, 135), link="eth0")
    kernels = {(_MAC.hex(":"), "ICMPv6 135"): 1}
    assert packets.foreign([frame], set(), kernels) == ["ICMPv6 of type 135 to ff02::1 on eth0"]


@pytest.mark.parametrize(
    ("link", "frame", "words"),
    [
        ("eth0", ARP, "ARP for 10.244.0.1 on eth0"),
        ("eth0", ADVERTISEMENT, "ICMPv6 of type 136 to ff02::1 on eth0"),
        ("lo", b"\xff" * 6 + _MAC + b"\x88\xb5" + bytes(50), "a frame of type 0x88b5 on lo"),
        ("lo", bytes(12) + b"\x08\x00\x45", "a frame of 15 bytes that is cut in its headers on lo"),
    ],
)
def test_an_injected_frame_is_found(pod: Pod, link: str, frame: bytes, words: str) -> None:
    with packets.watch(pod) as watch:
        sent = truth.deliver(pod)
        _send(pod, link, frame)
        assert words in packets.foreign(watch.frames, _connections(sent), {})


def test_sockets_of_others_are_found(pod: Pod) -> None:
    with packets.watch(pod) as watch:
        with pod.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"who is there", ("127.0.0.1", 53))
        found = packets.foreign(watch.frames, set(), {})
        assert any(each.startswith("UDP to 127.0.0.1:53 on lo") for each in found), found


def test_what_is_sent_again_or_cut_off_in_a_connection_of_the_kits(pod: Pod) -> None:
    request, response = truth.request(truth.new_nonce()), b"HTTP/1.1 204 No Content\r\n\r\n"
    leg = replay.inbound(pod, 8080, 40_100)
    frames = [Frame(0, frame, link="lo") for frame in replay.conversation(leg, [(request, response)])]
    kits = {frozenset(("127.0.0.6:40100", f"{pod.ip}:8080"))}
    assert packets.foreign(frames, kits, {}) == []
    asking = next(each for each in frames if request in each.data)
    assert packets.foreign([*frames, asking], kits, {}) == [f"a copy of TCP to {pod.ip}:8080 on lo"]
    flags = 14 + 20 + 13
    reset = asking.data[:flags] + b"\x04" + asking.data[flags + 1 :]
    assert packets.foreign([*frames, Frame(0, reset, link="lo")], kits, {}) == [
        f"a reset in TCP to {pod.ip}:8080 on lo"
    ]
    elsewhere = [Frame(0, each.data, link="eth0") for each in frames]
    assert packets.foreign(elsewhere, kits, {}) != []


def test_what_was_carried_is_put_together_and_a_pair_can_be_left_out(pod: Pod) -> None:
    leg = replay.inbound(pod, 8080, 40_101)
    frames = [Frame(0, each, link="lo") for each in replay.conversation(leg, [(b"a secret in pieces", b"ok")], mss=4)]
    assert any(b"a secret in pieces" in each for each in packets.carried(frames))
    assert list(packets.carried(frames, {frozenset(("127.0.0.6", pod.ip))})) == []
    assert list(packets.carried([Frame(0, ARP, link="lo")])) == [ARP]
