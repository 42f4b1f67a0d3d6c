"""Wires: everything that crossed a veth, or a count of what is missing."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.mesh.certificates import CertificateAuthority, spiffe_id
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.recorder import PacketRecorder, on_link

StartWire = Callable[[Pod], PacketRecorder]


def transfer(client: Pod, server: Pod, data: bytes, port: int = 9000) -> None:
    """Send `data` over one connection and wait until the other side has read it all."""
    with server.listen("0.0.0.0", port) as listener, client.connect(server.ip, port) as outgoing:
        incoming, _ = listener.accept()

        def feed() -> None:
            outgoing.sendall(data)
            outgoing.shutdown(1)

        feeder = threading.Thread(target=feed)
        feeder.start()
        with incoming:
            received = b""
            while chunk := incoming.recv(1 << 20):
                received += chunk
        feeder.join()
    assert received == data


def test_what_crosses_in_plain_text_is_found(node: Node, wire: StartWire) -> None:
    client, server = node.pod("client"), node.pod("server")
    recording = wire(server)
    transfer(client, server, b"a marker-1 in the middle")
    assert recording.found(["marker-1", "marker-2"]) == {"marker-1"}
    assert recording.dropped == 0
    assert b"a marker-1 in the middle" in recording.streams.values()


def test_a_marker_across_two_segments_is_found(node: Node, wire: StartWire) -> None:
    client, server = node.pod("client"), node.pod("server")
    recording = wire(server)
    with server.listen("0.0.0.0", 9000) as listener, client.connect(server.ip, 9000) as outgoing:
        incoming, _ = listener.accept()
        with incoming:
            outgoing.sendall(b"mark")
            assert incoming.recv(10) == b"mark"
            outgoing.sendall(b"er-1")
            assert incoming.recv(10) == b"er-1"
    assert recording.found(["marker-1"]) == {"marker-1"}
    assert not any(b"marker-1" in frame.data for frame in recording.frames)


def test_only_the_pods_own_veth_is_recorded(node: Node, wire: StartWire) -> None:
    client, server, neighbour = node.pod("client"), node.pod("server"), node.pod("neighbour")
    theirs, idle = wire(server), wire(neighbour)
    transfer(client, server, b"marker-1")
    assert theirs.found(["marker-1"]) == {"marker-1"}
    assert idle.found(["marker-1"]) == set()


def test_a_megabyte_is_recorded_whole(node: Node, wire: StartWire) -> None:
    client, server = node.pod("client"), node.pod("server")
    recording = wire(server)
    body = bytes(range(256)) * 4096
    transfer(client, server, body)
    assert body in recording.streams.values()


def test_drops_are_counted_and_refuse_a_verdict(node: Node) -> None:
    client, server = node.pod("client"), node.pod("server")
    recording = on_link(server, buffer=1)
    transfer(client, server, b"x" * (20 << 20))
    recording.stop()
    assert recording.dropped > 0
    with pytest.raises(HarnessError, match=rf"not whole: the kernel dropped {recording.dropped} frames"):
        recording.found(["marker-1"])


def test_tls_is_told_from_plaintext(node: Node, wire: StartWire) -> None:
    client, server = node.pod("client"), node.pod("server")
    authority = CertificateAuthority()
    identity = authority.issue(spiffe_id("default", "server"))
    chain = node.run_dir / "chain.pem"
    chain.write_bytes(identity.certificate + identity.key)
    serving, asking = (
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        ssl.create_default_context(cadata=authority.root.decode()),
    )
    serving.load_cert_chain(chain)
    asking.check_hostname = False
    recording = wire(server)
    with server.listen("0.0.0.0", 9000) as listener, client.connect(server.ip, 9000) as outgoing:
        incoming, _ = listener.accept()

        def answer() -> None:
            with serving.wrap_socket(incoming, server_side=True) as secured:
                secured.sendall(secured.recv(100))

        answerer = threading.Thread(target=answer)
        answerer.start()
        with asking.wrap_socket(outgoing) as secured:
            secured.sendall(b"marker-1")
            assert secured.recv(100) == b"marker-1"
        answerer.join()
    assert recording.found(["marker-1"]) == set()
    assert len(recording.streams) == 2
    assert recording.streams_not_tls() == {}


def test_a_saved_recording_opens_elsewhere(node: Node, wire: StartWire, tmp_path: Path) -> None:
    client, server = node.pod("client"), node.pod("server")
    recording = wire(server)
    transfer(client, server, b"marker-1")
    recording.save(tmp_path / "wire.pcap")
    argv = ["tcpdump", "-nAr", str(tmp_path / "wire.pcap"), "tcp port 9000"]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "marker-1" in text
    assert f"{client.ip}." in text


def test_a_wire_outlives_its_pod(node: Node, wire: StartWire) -> None:
    client, server = node.pod("client"), node.pod("server")
    recording = wire(server)
    transfer(client, server, b"marker-1")
    server.delete()
    server.wait_released()
    assert recording.found(["marker-1"]) == {"marker-1"}
