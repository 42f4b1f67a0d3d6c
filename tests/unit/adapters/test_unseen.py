"""What cannot be seen in plaintext is said, once, with the reason: real processes and packets in a node."""

from __future__ import annotations

import os
import shutil
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.adapters.reference import RunningTapper
from harness.mesh import fake_envoy, replay
from harness.mesh.sidecar import istio_environ
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import MINIMAL_ENVIRON, Command, Process
from harness.waiting import wait_until

StartTapper = Callable[..., RunningTapper]

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
PILOT_AGENT = "/usr/local/bin/pilot-agent"


def played(pod: Pod, path: str, port: int = 40001) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode()
    replay.play(pod, replay.conversation(replay.inbound(pod, 8080, port), [(request, ANSWER)]))


def client_hello(name: str) -> bytes:
    context = ssl.create_default_context()
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def said(running: RunningTapper, *parts: str) -> list[str]:
    return [line for line in running.read_log().splitlines() if all(part in line for part in parts)]


def agent_with_envoy(pod: Pod, role: str, *, service_node: bool = False) -> Process:
    """pilot-agent by argv (a shell), and as its child a process whose executable is named envoy. With `service_node`
    the Envoy itself is told the role, as older releases did, and its parent is a nobody."""
    directory = pod.node.run_dir / f"agent-{pod.name}"
    directory.mkdir()
    interpreter = os.path.realpath(sys.executable)
    (directory / "pyvenv.cfg").write_text(f"home = {Path(interpreter).parent}\n")
    shutil.copy(interpreter, directory / "envoy")
    inside = pod.node.inside(directory)
    further = f"--service-node {role}~{pod.ip}~gw.istio-system~svc" if service_node else ""
    program = "import signal; print('up', flush=True); signal.pause()"
    (directory / "proxy").write_text(f'"{inside}/envoy" -I -S -c "{program}" {further} &\nwait\n')
    name = "somebody" if service_node else PILOT_AGENT
    argv = ["bash", "-c", f"cd {inside}; exec -a {name} bash proxy {role} --domain svc.cluster.local"]
    process = pod.spawn(Command(argv, env=istio_environ(pod)), name="agent")
    wait_until(lambda: "up" in process.read_log(), "the agent's envoy", logs=process.read_log)
    return process


@pytest.mark.parametrize(("role", "service_node"), [("router", False), ("waypoint", False), ("router", True)])
def test_a_gateway_is_said_to_be_one_and_captured(
    node: Node, tapper: StartTapper, role: str, *, service_node: bool
) -> None:
    """A sidecar started in the same way is the canary: of it nothing is said."""
    gateway, sidecar = node.pod("gateway"), node.pod("sidecar")
    agent_with_envoy(gateway, role, service_node=service_node)
    agent_with_envoy(sidecar, "sidecar", service_node=service_node)
    running = tapper([gateway, sidecar])
    running.wait_capturing(gateway, sidecar)
    played(gateway, "/still-captured")
    played(sidecar, "/sidecar")
    running.wait_targets(["/still-captured", "/sidecar"])
    running.stop()
    (line,) = said(running, "is a gateway")
    assert f"the pod {gateway.ip} " in line
    assert f"proxy {role})" in line


APP = ["sleep", "1000"]


@pytest.mark.parametrize("of", ["application", "agent"])
def test_proxyless_grpc_is_told_from_a_pod_without_sidecar(node: Node, tapper: StartTapper, of: str) -> None:
    proxyless, plain, canary = node.pod("proxyless"), node.pod("plain"), node.pod("canary")
    env = (
        {**MINIMAL_ENVIRON, "GRPC_XDS_BOOTSTRAP": "/etc/istio/proxy/grpc-bootstrap.json"}
        if of == "application"
        else {**istio_environ(proxyless), "ISTIO_META_GENERATOR": "grpc"}
    )
    member = proxyless.spawn(Command(APP, env=env))
    plain.spawn(Command(APP, env={**MINIMAL_ENVIRON, "GRPC_XDS_BOOTSTRAP": ""}))
    running = tapper([proxyless, plain, canary])
    running.wait_capturing()
    fake_envoy.start(canary)
    running.wait_capturing(canary)  # so there was another look, which says nothing again
    running.stop()
    (line,) = said(running, "proxyless gRPC")
    assert f"the pod {proxyless.ip} has no proxy (pid {member.pid} " in line
    assert len(said(running, f"INSTANCE_IP {plain.ip} ", "no sidecar")) == 1


def test_proxyless_grpc_in_a_namespace_that_is_captured(node: Node, tapper: StartTapper) -> None:
    """Found by its addresses; the application begins after the pod was found. One with an Envoy beside it is none."""
    proxyless, meshed = node.pod("proxyless"), node.pod("meshed")
    env = {**MINIMAL_ENVIRON, "GRPC_XDS_BOOTSTRAP": "/etc/istio/proxy/grpc-bootstrap.json"}
    fake_envoy.start(meshed)
    meshed.spawn(Command(APP, env=env))
    running = tapper([proxyless, meshed], "--discover", "netns")
    running.wait_capturing(proxyless, meshed)
    assert said(running, "proxyless gRPC") == []
    proxyless.spawn(Command(APP, env=env))
    running.wait_for(lambda: said(running, "proxyless gRPC"), "the reason")
    running.stop()
    (line,) = said(running, "proxyless gRPC")
    assert f"the pod {proxyless.ip} " in line


def test_an_applications_own_tls_is_said_once_a_port(node: Node, tapper: StartTapper) -> None:
    """And is in the records besides; plaintext of another pod is the canary."""
    secret, open_ = node.pod("secret"), node.pod("open")
    for pod in (secret, open_):
        fake_envoy.start(pod)
    running = tapper([secret, open_])
    running.wait_capturing(secret, open_)
    hello = client_hello("shop.example")
    for number in range(3):
        frames = replay.conversation(replay.inbound(secret, 8443, 40001 + number), [(hello, b"")])
        replay.play(secret, frames)
    destination = ("93.184.216.34", 443)
    replay.play(secret, replay.conversation(replay.outbound(secret, destination), [(hello, b"\x16\x03\x03")]))
    played(open_, "/plain")
    running.wait_targets(["/plain"])
    running.wait_for(lambda: len(running.of_type("tls")) == 4, "four TLS connections")
    running.stop()
    inbound, outbound = sorted(said(running, "application's own TLS"))
    assert f"inbound traffic of the pod {secret.ip} on port 8443 is" in inbound
    assert f"outbound traffic of the pod {secret.ip} on port 443 is" in outbound


def test_of_many_ports_only_some_are_named(node: Node, tapper: StartTapper) -> None:
    pod = node.pod("server")
    fake_envoy.start(pod)
    running = tapper([pod])
    running.wait_capturing(pod)
    hello = client_hello("shop.example")
    for number in range(12):
        replay.play(pod, replay.conversation(replay.inbound(pod, 9000 + number), [(hello, b"")]))
    running.wait_for(lambda: len(running.of_type("tls")) == 12, "twelve TLS connections")
    running.stop()
    lines = said(running, "application's own TLS")
    assert len(lines) == 8
    assert [line.endswith("further ports of it are not named") for line in lines] == [False] * 7 + [True]


def on_wire(client: Pod, server: Pod, port: int, data: bytes) -> None:
    """A real TCP connection between two pods that carries some bytes."""
    with server.listen(server.ip, port) as listener, client.connect(server.ip, port) as connection:
        accepted, _ = listener.accept()
        with accepted:
            connection.sendall(data)
            assert accepted.recv(len(data))


def test_hbone_and_a_silent_lo(node: Node, tapper: StartTapper) -> None:
    """Ambient: of the silent pod it is said, once; the talking one has plaintext on its lo, too, and is the canary."""
    silent, talking, late, peer = [node.pod(name) for name in ("silent", "talking", "late", "peer")]
    running = tapper([silent, talking, late], "--discover", "netns")
    running.wait_capturing(silent, talking, late)
    hello = client_hello("ztunnel.example")
    on_wire(peer, talking, 15008, hello)
    played(talking, "/talking")
    on_wire(peer, silent, 15008, hello)
    on_wire(silent, peer, 15008, hello)
    running.wait_for(lambda: said(running, "carries HBONE"), "what is said about HBONE")
    running.wait_targets(["/talking"])
    on_wire(peer, silent, 15008, hello)
    on_wire(peer, late, 15008, hello)  # judged after what came before it
    running.wait_for(lambda: said(running, "carries HBONE", late.ip), "what is said about the last")
    running.stop()
    (line, _) = said(running, "carries HBONE")
    assert f"the wire of the pod {silent.ip} " in line
    assert "nothing crosses its lo" in line


def test_hbone_of_a_pod_whose_lo_nobody_captures(node: Node, tapper: StartTapper) -> None:
    pod, peer = node.pod("ambient"), node.pod("peer")
    running = tapper([pod], istio=False)
    running.wait_capturing()
    on_wire(peer, pod, 15008, client_hello("ztunnel.example"))
    running.wait_for(lambda: said(running, "carries HBONE"), "what is said about HBONE")
    running.stop()
    (line,) = said(running, "carries HBONE")
    assert "--discover netns" in line
