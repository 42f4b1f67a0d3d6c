"""Requests in the tunnels of an overlay network, and in fragments, on the node's interfaces of a live capture."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable

import pytest

from harness.adapters.reference import RunningTapper
from harness.mesh import replay
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod

StartTapper = Callable[..., RunningTapper]

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
VXLAN = b"\x08\0\0\0\0\0\x07\0"
GENEVE = b"\x01\0\x65\x58\0\0\x07\0" + bytes(4)  # with an option of four bytes


def on_the_node(tapper: StartTapper, target: Pod | str) -> RunningTapper:
    """A tapper that captures on the node's interfaces."""
    running = tapper([target])
    running.wait_capturing()
    return running


def frames(server: str, target: str, port: int) -> list[bytes]:
    """An exchange with a server, as Ethernet frames."""
    leg = replay.ReplayLeg(("192.0.2.7", port), (server, 8080), (server, 8080))
    request = f"GET {target} HTTP/1.1\r\nHost: shop\r\n\r\n".encode()
    return replay.conversation(leg, [(request, ANSWER)])


def send_datagrams(pod: Pod, to: tuple[str, int], datagrams: Iterable[bytes]) -> None:
    with pod.socket(socket.AF_INET, socket.SOCK_DGRAM, 0) as sock:
        for datagram in datagrams:
            sock.sendto(datagram, to)


def send_packets(pod: Pod, to: str, protocol: int, payloads: Iterable[bytes]) -> None:
    with pod.socket(socket.AF_INET, socket.SOCK_RAW, protocol) as sock:
        for payload in payloads:
            sock.sendto(payload, (to, 0))


@pytest.mark.parametrize(("port", "header"), [(4789, VXLAN), (8472, VXLAN), (6081, GENEVE)])
def test_a_request_in_a_tunnel_between_nodes(node: Node, tapper: StartTapper, port: int, header: bytes) -> None:
    """The tunnel's ends are no targets; inside one conversation is a target's, and one is not."""
    target, one, other = node.pod("target"), node.pod("one"), node.pod("other")
    running = on_the_node(tapper, target)
    for server, path in (("192.0.2.9", "/not-a-targets"), (target.ip, "/inside")):
        send_datagrams(one, (other.ip, port), [header + frame for frame in frames(server, path, 40001)])
    running.wait_targets(["/inside"])
    running.stop()
    (record,) = running.exchanges
    assert (record["src"], record["dst"]) == ("192.0.2.7:40001", f"{target.ip}:8080")
    assert (record["pod_ip"], record["direction"], record["status"]) == (target.ip, "node", 200)


@pytest.mark.parametrize(
    ("protocol", "header", "behind"),
    [(47, b"\0\0\x08\0", 14), (47, b"\x20\0\x65\x58\0\0\0\x07", 0), (4, b"", 14)],
    ids=["gre", "nvgre", "ipip"],
)
def test_a_request_in_gre_or_ip(node: Node, tapper: StartTapper, protocol: int, header: bytes, behind: int) -> None:
    target, one, other = node.pod("target"), node.pod("one"), node.pod("other")
    running = on_the_node(tapper, target)
    send_packets(one, other.ip, protocol, (header + frame[behind:] for frame in frames(target.ip, "/inside", 40001)))
    running.wait_targets(["/inside"])
    running.stop()
    assert [record["dst"] for record in running.exchanges] == [f"{target.ip}:8080"]


def test_a_request_in_fragments(node: Node, tapper: StartTapper) -> None:
    """The server is on no node: the TCP of a pod would reset the connection, of which it knows nothing."""
    server, one = "192.0.2.9", node.pod("one")
    running = on_the_node(tapper, server)
    with one.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        for frame in frames(server, "/in-fragments", 40001):
            packet = frame[14:]
            header, segment = packet[:20], packet[20:]
            for at in range(0, len(segment), 24):
                more = 0x2000 if at + 24 < len(segment) else 0
                fragment = header[:4] + struct.pack("!HH", 77, more | at // 8) + header[8:]
                sock.sendto(fragment + segment[at : at + 24], (server, 0))
    running.wait_targets(["/in-fragments"])
    running.stop()
    assert [record["target"] for record in running.exchanges] == ["/in-fragments"]
