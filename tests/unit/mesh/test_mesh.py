"""The mesh, on real Envoys: what crosses the wire, who is let in, and how the application is reached."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable

import pytest

from harness.errors import HarnessError
from harness.mesh import traffic
from harness.mesh.certificates import CertificateAuthority, Identity, spiffe_id
from harness.mesh.mesh import Mesh, MeshPod
from harness.mesh.traffic import nonces
from harness.mesh.workload import PROXY_UID, Delivery, Mode
from harness.sandbox.frames import Flow, parse_tcp
from harness.sandbox.pod import Pod
from harness.sandbox.recorder import PacketRecorder, on_link

StartWire = Callable[[Pod], PacketRecorder]


class Loopback:
    """The TCP flows that appear on a pod's lo while this is open."""

    def __init__(self, pod: Pod) -> None:
        self._socket = pod.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.bind(("lo", 3))
        self._socket.setblocking(False)

    def flows(self) -> set[Flow]:
        found: set[Flow] = set()
        with self._socket:
            while True:
                try:
                    segment = parse_tcp(self._socket.recv(1 << 17))
                except BlockingIOError:
                    return found
                if segment is not None and segment.payload:
                    found.add(segment.flow)


@pytest.fixture
def pair(mesh: Mesh) -> tuple[MeshPod, MeshPod]:
    return mesh.pod("client"), mesh.pod("server")


def test_without_sidecars_the_wire_is_plain(mesh: Mesh, pair: tuple[MeshPod, MeshPod], wire: StartWire) -> None:
    recording = wire(pair[1].pod)
    sent = mesh.send(*pair, 5)
    assert recording.found(nonces(sent)) == nonces(sent)


@pytest.mark.parametrize("ipv6", [False, True])
def test_strict_shows_only_tls(mesh: Mesh, pair: tuple[MeshPod, MeshPod], wire: StartWire, ipv6: bool) -> None:
    mesh.inject(*pair)
    recordings = [wire(member.pod) for member in pair]
    sent = mesh.send(*pair, 20, connections=2, ipv6=ipv6)
    assert len(nonces(sent)) == 20
    for recording in recordings:
        assert recording.found(nonces(sent)) == set()
        assert sum(map(len, recording.streams.values())) > 20 * 100
        assert recording.streams_not_tls() == {}
        ports = {port for flow in recording.streams for port in (flow.sport, flow.dport)}
        assert 8080 in ports
        assert 15006 not in ports, "the redirect happens inside the pod"


def test_strict_refuses_whoever_has_no_sidecar(mesh: Mesh, pair: tuple[MeshPod, MeshPod]) -> None:
    mesh.inject(*pair)
    stranger = mesh.pod("stranger")
    with pytest.raises(ConnectionResetError):
        mesh.send(stranger, pair[1])
    assert len(mesh.send(*pair)) == 1


def handshake(client: MeshPod, server: MeshPod, context: ssl.SSLContext) -> None:
    """TLS towards a pod's port, as a sidecar offers it; then one byte, since in TLS 1.3 a refusal comes after that."""
    context.set_alpn_protocols(["istio-peer-exchange", "istio"])
    context.check_hostname = False
    with client.pod.connect(server.ip, 8080) as connection, context.wrap_socket(connection) as secured:
        secured.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert secured.recv(1), "closed without an answer"


def test_strict_asks_for_a_certificate_of_this_mesh(mesh: Mesh, pair: tuple[MeshPod, MeshPod]) -> None:
    """None is refused, a stranger's is refused, one of the mesh's own is the canary."""
    mesh.inject(*pair)
    stranger = mesh.pod("stranger")
    other_mesh = CertificateAuthority().issue(spiffe_id("default", "client"))
    assert pair[0].sidecar is not None
    own = pair[0].sidecar.identity
    file = mesh.node.run_dir / "identity.pem"

    def context(identity: Identity | None) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
        if identity is not None:
            file.write_bytes(identity.certificate + identity.key)
            made.load_cert_chain(file)
        return made

    for identity in (None, other_mesh):
        # the alert, or what a later write to the closed connection meets
        with pytest.raises((ssl.SSLError, ConnectionError)):
            handshake(stranger, pair[1], context(identity))
    handshake(stranger, pair[1], context(own))


def test_permissive_lets_both_in(mesh: Mesh, pair: tuple[MeshPod, MeshPod], wire: StartWire) -> None:
    mesh.inject(*pair, mode=Mode.PERMISSIVE)
    stranger = mesh.pod("stranger")
    recording = wire(pair[1].pod)
    plain, mutual = mesh.send(stranger, pair[1], 3), mesh.send(*pair, 3)
    assert recording.found(nonces(plain) | nonces(mutual)) == nonces(plain)


def test_disable_is_plain_although_there_are_proxies(
    mesh: Mesh, pair: tuple[MeshPod, MeshPod], wire: StartWire
) -> None:
    mesh.inject(*pair, mode=Mode.DISABLE)
    recording, loopback = wire(pair[1].pod), Loopback(pair[1].pod)
    sent = mesh.send(*pair, 3)
    assert recording.found(nonces(sent)) == nonces(sent)
    assert {flow.src for flow in loopback.flows()} == {"127.0.0.6", pair[1].ip}


def test_mode_can_change_while_a_client_keeps_on(mesh: Mesh, pair: tuple[MeshPod, MeshPod], wire: StartWire) -> None:
    mesh.inject(*pair, mode=Mode.DISABLE)
    mesh.send(*pair, 2)
    for mode, readable in ((Mode.STRICT, False), (Mode.PERMISSIVE, False), (Mode.DISABLE, True)):
        mesh.set_mode(mode, pair[1])
        recording = wire(pair[1].pod)
        sent = mesh.send(*pair, 2)
        assert bool(recording.found(nonces(sent))) is readable, mode


def test_passthrough_delivery(mesh: Mesh, pair: tuple[MeshPod, MeshPod]) -> None:
    mesh.inject(*pair)
    loopback = Loopback(pair[1].pod)
    mesh.send(*pair)
    ends = {((flow.src, flow.dst), 8080 in (flow.sport, flow.dport)) for flow in loopback.flows()}
    assert ends == {(("127.0.0.6", pair[1].ip), True), ((pair[1].ip, "127.0.0.6"), True)}


def test_passthrough_delivery_over_ipv6(mesh: Mesh, pair: tuple[MeshPod, MeshPod]) -> None:
    mesh.inject(*pair)
    loopback = Loopback(pair[1].pod)
    mesh.send(*pair, ipv6=True)
    assert {flow.src for flow in loopback.flows()} == {"::6", str(pair[1].pod.ipv6)}


def test_localhost_delivery(mesh: Mesh, pair: tuple[MeshPod, MeshPod]) -> None:
    mesh.inject(*pair, delivery=Delivery.LOCALHOST)
    loopback = Loopback(pair[1].pod)
    mesh.send(*pair)
    flows = loopback.flows()
    assert {(flow.src, flow.dst) for flow in flows} == {("127.0.0.1", "127.0.0.1")}
    assert all(8080 in (flow.sport, flow.dport) for flow in flows)


def test_the_client_leg_is_asymmetric(mesh: Mesh, pair: tuple[MeshPod, MeshPod]) -> None:
    mesh.inject(*pair)
    shop = mesh.service("shop", pair[1])
    loopback = Loopback(pair[0].pod)
    mesh.send(pair[0], shop)
    to_proxy, reply = sorted(loopback.flows(), key=lambda flow: flow.dport != 15001)
    assert (to_proxy.src, to_proxy.dst, to_proxy.dport) == (pair[0].ip, "127.0.0.1", 15001)
    assert reply == Flow(shop.ip, 80, pair[0].ip, to_proxy.sport)


def test_a_service_spreads_over_its_pods_with_and_without_a_sidecar(mesh: Mesh, pair: tuple[MeshPod, MeshPod]) -> None:
    client, first = pair
    second = mesh.pod("second")
    shop = mesh.service("shop", first, second)
    wires = {member.name: on_link(member.pod) for member in (first, second)}
    plain = [sent for _ in range(4) for sent in mesh.send(client, shop)]
    assert {name: len(wire.found(nonces(plain))) for name, wire in wires.items()} == {"server": 2, "second": 2}

    mesh.inject(client, first, second)
    before = {member.name: requests_received(member) for member in (first, second)}
    mesh.send(client, shop, 8, connections=4)
    received = {member.name: requests_received(member) - before[member.name] for member in (first, second)}
    assert sum(received.values()) == 8
    assert all(received.values())


def requests_received(member: MeshPod) -> int:
    assert member.sidecar is not None
    return member.sidecar.counters("^http.inbound.downstream_rq_total$").get("http.inbound.downstream_rq_total", 0)


def test_a_pod_that_calls_itself_through_its_service(mesh: Mesh, pair: tuple[MeshPod, MeshPod]) -> None:
    mesh.inject(*pair)
    shop = mesh.service("shop", pair[1])
    loopback = Loopback(pair[1].pod)
    mesh.send(pair[1], shop)
    flows = loopback.flows()
    assert any(flow.dport == 15001 for flow in flows), "out, in plain text"
    assert any(flow.dport == 15006 for flow in flows), "its own TLS, on lo"
    assert any(flow.src == "127.0.0.6" for flow in flows), "in, in plain text"


def test_the_proxy_is_istios_to_whoever_reads_procfs(mesh: Mesh, pair: tuple[MeshPod, MeshPod]) -> None:
    mesh.inject(*pair)
    sidecar = pair[1].sidecar
    assert sidecar is not None
    proc = mesh.node.procfs / str(sidecar.process.pid)
    assert os.readlink(proc / "exe") == "/usr/local/bin/envoy"
    if not mesh.node.single_id:
        assert f"Uid:\t{PROXY_UID}\t" in (proc / "status").read_text()
        assert f"INSTANCE_IP={pair[1].ip}".encode() in (proc / "environ").read_bytes().split(b"\0")


def test_a_proxy_can_be_restarted(mesh: Mesh, pair: tuple[MeshPod, MeshPod]) -> None:
    mesh.inject(*pair)
    sidecar = pair[1].sidecar
    assert sidecar is not None
    mesh.send(*pair)
    old = sidecar.process.pid
    sidecar.restart()
    assert sidecar.process.pid != old
    assert len(mesh.send(*pair, 3)) == 3


def test_every_request_has_a_nonce_of_its_own(mesh: Mesh, pair: tuple[MeshPod, MeshPod]) -> None:
    sent = mesh.send(*pair, 50, connections=3)
    assert len(nonces(sent)) == 50
    assert {exchange.status for exchange in sent} == {200}


def test_an_answer_that_is_not_the_applications_is_an_error(mesh: Mesh, pair: tuple[MeshPod, MeshPod]) -> None:
    with pytest.raises(HarnessError, match="got 404"):
        traffic.send(pair[0].pod, pair[1].ip, 8080, prefix="/status/404?")
