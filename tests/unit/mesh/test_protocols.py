"""What a mesh carries: HTTP by clients and servers that nobody here wrote, gRPC, WebSocket, bytes, TLS of others."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pod_programs import python, start

from harness.mesh.mesh import Mesh, MeshPod
from harness.mesh.workload import Delivery
from harness.sandbox.pod import Pod
from harness.sandbox.recorder import PacketRecorder

StartWire = Callable[[Pod], PacketRecorder]
MARKER = "marker-7f3a"


@pytest.fixture
def pair(mesh: Mesh) -> tuple[MeshPod, MeshPod]:
    """A client and a server with sidecars; what listens in the server is up to the test."""
    client, server = mesh.pod("client"), mesh.pod("server", serve=False)
    mesh.inject(client, server)
    return client, server


@pytest.fixture
def web(mesh: Mesh) -> tuple[MeshPod, MeshPod]:
    """The same with the sample application in the server."""
    client, server = mesh.pod("client"), mesh.pod("server")
    mesh.inject(client, server)
    return client, server


def assert_only_tls(recording: PacketRecorder) -> None:
    assert recording.streams, "the wire saw no connection at all"
    assert recording.streams_not_tls() == {}
    assert recording.found([MARKER]) == set()


def test_curl(web: tuple[MeshPod, MeshPod], wire: StartWire) -> None:
    recording = wire(web[1].pod)
    output = web[0].pod.run(["curl", "-sS", "-H", f"x-nonce: {MARKER}", f"http://{web[1].ip}:8080/hello"])
    assert f'"nonce": "{MARKER}"' in output
    assert_only_tls(recording)


def test_curl_posts_and_reads_chunks(web: tuple[MeshPod, MeshPod]) -> None:
    base = f"http://{web[1].ip}:8080"
    curl = ["curl", "-sS", "--fail"]
    assert web[0].pod.run([*curl, "-d", "a=b", f"{base}/form"]) == "a=b"
    assert web[0].pod.run([*curl, "-H", "Transfer-Encoding: chunked", "-d", "a=b", f"{base}/form"]) == "a=b"
    assert web[0].pod.run([*curl, f"{base}/chunked/3"]) == "chunk 0\nchunk 1\nchunk 2\n"
    assert web[0].pod.run([*curl, "-I", f"{base}/x"]).startswith("HTTP/1.1 200 OK")
    assert len(web[0].pod.run([*curl, f"{base}/bytes/1000000"])) == 1_000_000
    assert '"path": "/close"' in web[0].pod.run([*curl, f"{base}/close"])


def test_h2load_over_http1(web: tuple[MeshPod, MeshPod]) -> None:
    output = web[0].pod.run(["h2load", "--h1", "-n", "200", "-c", "4", f"http://{web[1].ip}:8080/load"], timeout=30)
    assert re.search(r"requests: 200 total, .* 200 succeeded, 0 failed", output), output


GRPC_SERVER = """
    import sys
    from concurrent import futures
    import grpc

    def handler(unary, details=None):
        return grpc.unary_unary_rpc_method_handler(unary)

    def echo(request, context):
        context.set_trailing_metadata((("seen", "yes"),))
        return b"echo " + request

    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("demo.Echo", {"Say": handler(echo)}),))
    server.add_insecure_port("0.0.0.0:8080")
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()
"""
GRPC_CLIENT = """
    import sys
    import grpc

    with grpc.insecure_channel(sys.argv[1]) as channel:
        reply, call = channel.unary_unary("/demo.Echo/Say").with_call(sys.argv[2].encode(), timeout=10)
        print(reply.decode(), call.code().name, dict(call.trailing_metadata())["seen"])
"""


@pytest.mark.parametrize("delivery", Delivery)
def test_grpc(mesh: Mesh, wire: StartWire, tmp_path: Path, delivery: Delivery) -> None:
    client, server = mesh.pod("client"), mesh.pod("server", serve=False)
    mesh.inject(client, server, delivery=delivery)
    start(server, GRPC_SERVER, tmp_path=tmp_path)
    recording = wire(server.pod)
    output = client.pod.run(python(client.pod, GRPC_CLIENT, f"{server.ip}:8080", MARKER, tmp_path=tmp_path), timeout=20)
    assert output == f"echo {MARKER} OK yes\n"
    assert_only_tls(recording)


def test_cleartext_http2_by_h2load(pair: tuple[MeshPod, MeshPod], tmp_path: Path) -> None:
    """h2load speaks HTTP/2 with prior knowledge; a gRPC server answers it in HTTP/2, whatever it is asked."""
    start(pair[1], GRPC_SERVER, tmp_path=tmp_path)
    argv = ["h2load", "-n", "50", "-c", "2", "-m", "5", "-p", "h2c", f"http://{pair[1].ip}:8080/x"]
    output = pair[0].pod.run(argv, timeout=30)
    assert "50 total, 50 started, 50 done" in output, output
    assert "0 errored, 0 timeout" in output, output


WEBSOCKET_SERVER = """
    from websockets.sync.server import serve

    def echo(connection):
        for message in connection:
            connection.send("echo " + message)

    with serve(echo, "0.0.0.0", 8080) as server:
        print("ready", flush=True)
        server.serve_forever()
"""
WEBSOCKET_CLIENT = """
    import sys
    from websockets.sync.client import connect

    with connect(sys.argv[1], proxy=None) as connection:
        for word in sys.argv[2:]:
            connection.send(word)
            print(connection.recv())
"""


def test_websocket(pair: tuple[MeshPod, MeshPod], wire: StartWire, tmp_path: Path) -> None:
    start(pair[1], WEBSOCKET_SERVER, tmp_path=tmp_path)
    recording = wire(pair[1].pod)
    arguments = (f"ws://{pair[1].ip}:8080/", MARKER, "again")
    output = pair[0].pod.run(python(pair[0].pod, WEBSOCKET_CLIENT, *arguments, tmp_path=tmp_path), timeout=20)
    assert output == f"echo {MARKER}\necho again\n"
    assert_only_tls(recording)


def test_bytes_that_are_no_http(pair: tuple[MeshPod, MeshPod], wire: StartWire) -> None:
    recording = wire(pair[1].pod)
    with pair[1].pod.listen("0.0.0.0", 8080) as listener, pair[0].pod.connect(pair[1].ip, 8080) as outgoing:
        outgoing.sendall(MARKER.encode())
        incoming, peer = listener.accept()
        with incoming:
            assert peer[0] == "127.0.0.6"
            assert incoming.recv(100) == MARKER.encode()
            incoming.sendall(b"and back")
        assert outgoing.recv(100) == b"and back"
    assert_only_tls(recording)


def test_a_server_that_speaks_first(pair: tuple[MeshPod, MeshPod]) -> None:
    with pair[1].pod.listen("0.0.0.0", 8080) as listener, pair[0].pod.connect(pair[1].ip, 8080) as outgoing:
        incoming, _ = listener.accept()
        with incoming:
            incoming.sendall(b"220 welcome\r\n")
            assert outgoing.recv(100) == b"220 welcome\r\n"


def test_an_applications_own_tls_goes_through_untouched(pair: tuple[MeshPod, MeshPod], wire: StartWire) -> None:
    """The ClientHello that arrives at the application is the one that was sent, inside the mesh's TLS on the wire."""
    recording = wire(pair[1].pod)
    hello = bytes.fromhex("160301000c") + b"\x01\x00\x00\x08" + MARKER.encode()[:8]
    with pair[1].pod.listen("0.0.0.0", 8080) as listener, pair[0].pod.connect(pair[1].ip, 8080) as outgoing:
        outgoing.sendall(hello)
        incoming, _ = listener.accept()
        with incoming:
            assert incoming.recv(100) == hello
    assert recording.streams_not_tls() == {}
    assert not any(hello in stream for stream in recording.streams.values())
