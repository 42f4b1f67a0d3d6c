"""Legs as packets: what a sniffer on a pod's lo sees when they are played."""

from __future__ import annotations

import socket

import pytest
from scapy.layers.inet import IP, TCP, Ether
from scapy.layers.inet6 import IPv6

from harness.mesh import replay
from harness.sandbox.frames import Flow, Frame, parse_tcp, tcp_streams
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod

REQUEST = b"GET /nonce HTTP/1.1\r\nHost: shop\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def sniff(pod: Pod, frames: list[bytes]) -> list[tuple[int, bytes]]:
    """Play the frames and one last marker frame; what the sniffer got before the marker, with its packet type."""
    marker = frames[0][:-1] + b"\x01"
    with pod.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sniffer:
        sniffer.bind(("lo", 3))
        sniffer.settimeout(5)
        replay.play(pod, [*frames, marker])
        seen: list[tuple[int, bytes]] = []
        while True:
            data, address = sniffer.recvfrom(1 << 17)
            if data == marker:
                return seen
            seen.append((address[2], data))


@pytest.mark.parametrize("ipv6", [False, True])
def test_every_frame_crosses_lo_as_it_was_built_and_nobody_answers(node: Node, ipv6: bool) -> None:
    pod = node.pod("server")
    frames = replay.conversation(replay.inbound(pod, 8080, ipv6=ipv6), [(REQUEST, RESPONSE)])
    seen = sniff(pod, frames)
    assert [data for kind, data in seen if kind == socket.PACKET_OUTGOING] == frames
    assert [data for kind, data in seen if kind == socket.PACKET_HOST] == frames
    assert len(seen) == 2 * len(frames)


def test_inbound_leg_is_symmetric(node: Node) -> None:
    pod = node.pod("server")
    frames = [Frame(0, data) for data in replay.conversation(replay.inbound(pod, 8080, 41000), [(REQUEST, RESPONSE)])]
    assert tcp_streams(frames) == {
        Flow("127.0.0.6", 41000, pod.ip, 8080): REQUEST,
        Flow(pod.ip, 8080, "127.0.0.6", 41000): RESPONSE,
    }


def test_localhost_delivery(node: Node) -> None:
    leg = replay.inbound(node.pod("server"), 8080, localhost=True)
    assert (leg.client[0], leg.server) == ("127.0.0.1", ("127.0.0.1", 8080))


def test_outbound_leg_is_not_its_own_mirror(node: Node) -> None:
    pod = node.pod("client")
    leg = replay.outbound(pod, ("10.96.0.10", 80), 42000)
    frames = [Frame(0, data) for data in replay.conversation(leg, [(REQUEST, RESPONSE)] * 2)]
    assert tcp_streams(frames) == {
        Flow(pod.ip, 42000, "127.0.0.1", 15001): REQUEST * 2,
        Flow("10.96.0.10", 80, pod.ip, 42000): RESPONSE * 2,
    }


def test_sequence_numbers_are_a_real_connections(node: Node) -> None:
    """Each side acknowledges exactly what the other has sent; long payloads are cut; numbers wrap around."""
    pod = node.pod("server")
    body = b"x" * 5000
    frames = replay.conversation(
        replay.inbound(pod, 8080), [(body, body)], mss=1000, client_isn=2**32 - 2000, server_isn=2**32 - 1
    )
    following: dict[int, int] = {}
    for data in frames:
        segment = parse_tcp(data)
        assert segment is not None
        port = segment.flow.sport
        if port in following and not segment.syn:
            assert segment.seq == following[port]
        fin = data[14 + 20 + 13] & 1
        following[port] = (segment.seq + len(segment.payload) + fin) & 0xFFFFFFFF
    assert len([data for data in frames if len(data) > 1000]) == 10


@pytest.mark.parametrize("ipv6", [False, True])
def test_every_length_and_checksum_is_right(node: Node, ipv6: bool) -> None:
    """As scapy, which knows better, fills them in where they are left out."""
    pod = node.pod("server")
    leg = replay.inbound(pod, 8080, ipv6=ipv6)
    for frame in replay.conversation(leg, [(REQUEST, RESPONSE + b"odd"), (b"", b"\xff" * 60_000)], mss=50_001):
        dissected = Ether(frame)
        for layer, name in ((IP, "len"), (IP, "chksum"), (IPv6, "plen"), (TCP, "chksum"), (TCP, "dataofs")):
            if layer in dissected:
                delattr(dissected[layer], name)
        assert bytes(dissected) == frame


def test_mid_stream_has_no_handshake(node: Node) -> None:
    leg = replay.inbound(node.pod("server"), 8080)
    frames = replay.conversation(leg, [(REQUEST, RESPONSE)], handshake=False, close=False)
    assert len(frames) == 2
