"""What the reference tapper makes of the protocols that a mesh carries besides HTTP/1, through real Envoys, STRICT."""

from __future__ import annotations

import os
import ssl
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from pod_programs import python, start

from harness.adapters.reference import Record, RunningTapper
from harness.mesh.mesh import Mesh, MeshPod
from harness.sandbox.pod import Pod
from harness.sandbox.recorder import PacketRecorder

StartTapper = Callable[..., RunningTapper]
StartWire = Callable[[Pod], PacketRecorder]


@pytest.fixture
def pair(mesh: Mesh) -> tuple[MeshPod, MeshPod]:
    """A client and a server with sidecars; what listens in the server is up to the test."""
    client, server = mesh.pod("client"), mesh.pod("server", serve=False)
    mesh.inject(client, server)
    return client, server


@pytest.fixture
def running(pair: tuple[MeshPod, MeshPod], tapper: StartTapper) -> RunningTapper:
    """The tapper, capturing at both."""
    running = tapper([member.pod for member in pair])
    running.wait_capturing(*(member.pod for member in pair))
    return running


GRPC_SERVER = """
    from concurrent import futures
    import grpc

    def say(request, context):
        context.set_trailing_metadata((("seen", "yes"),))
        return b"echo " + request

    def count(request, context):
        yield from (b"x" * size for size in (1, 22, 333))

    def refuse(request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "nothing h\\u00e9re")

    server = grpc.server(futures.ThreadPoolExecutor(4))
    methods = {
        "Say": grpc.unary_unary_rpc_method_handler(say),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("demo.Echo", methods),))
    server.add_insecure_port("0.0.0.0:8080")
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()
"""
GRPC_CLIENT = """
    import sys
    import grpc

    with grpc.insecure_channel(sys.argv[1]) as channel:
        if len(sys.argv) > 2:  # to be joined midway
            assert channel.unary_unary("/demo.Echo/Say")(b"early", timeout=10) == b"echo early"
            print("ready", flush=True)
            open(sys.argv[2]).close()  # until somebody opens the other end
        for word in (b"one", b"three"):
            assert channel.unary_unary("/demo.Echo/Say")(word, timeout=10) == b"echo " + word
        assert [len(x) for x in channel.unary_stream("/demo.Echo/Count")(b"", timeout=10)] == [1, 22, 333]
        try:
            channel.unary_unary("/demo.Echo/Refuse")(b"?", timeout=10)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND
        print("done")
"""


def test_grpc_calls_on_both_legs(
    pair: tuple[MeshPod, MeshPod], running: RunningTapper, wire: StartWire, tmp_path: Path
) -> None:
    client, server = pair
    start(server, GRPC_SERVER, tmp_path=tmp_path)
    recording = wire(server.pod)
    argv = python(client.pod, GRPC_CLIENT, f"{server.ip}:8080", tmp_path=tmp_path)
    assert client.pod.run(argv, timeout=30) == "done\n"
    running.wait_for(lambda: len(running.exchanges) >= 8, "four calls at both")
    running.stop()
    assert recording.streams_not_tls() == {}
    assert len(running.exchanges) == 8

    def sizes(record: Record, direction: str) -> list[int]:
        assert record["grpc"][direction]["exact"]
        assert record["grpc"][direction]["count"] == len(record["grpc"][direction]["sizes"])
        return list(record["grpc"][direction]["sizes"])

    for direction in ("outbound", "inbound"):
        records = [record for record in running.exchanges if record["direction"] == direction]
        assert [record["version"] for record in records] == ["HTTP/2"] * 4
        assert [(record["method"], record["target"], record["status"]) for record in records] == [
            ("POST", "/demo.Echo/Say", 200),
            ("POST", "/demo.Echo/Say", 200),
            ("POST", "/demo.Echo/Count", 200),
            ("POST", "/demo.Echo/Refuse", 200),
        ]
        assert all("incomplete" not in record for record in records)
        calls = [record["grpc"] for record in records]
        assert {call["service"] for call in calls} == {"demo.Echo"}
        assert [call["method"] for call in calls] == ["Say", "Say", "Count", "Refuse"]
        assert [(call["status"], call["message"] or None) for call in calls] == [
            (0, None),
            (0, None),
            (0, None),
            (5, "nothing h\u00e9re"),
        ]
        assert [sizes(record, "requests") for record in records] == [[3], [5], [0], [1]]
        assert [sizes(record, "responses") for record in records] == [[8], [10], [1, 22, 333], []]
        assert ["seen", "yes"] in records[0]["response"]["trailers"]
        assert [":authority", f"{server.ip}:8080"] in records[0]["request"]["headers"]
        assert not any(name in (":path", ":method", ":scheme") for name, _ in records[0]["request"]["headers"])


def test_grpc_on_a_connection_older_than_the_tapper(
    pair: tuple[MeshPod, MeshPod], tapper: StartTapper, tmp_path: Path
) -> None:
    """Its header tables were filled unseen: what the client's calls refer to is not known, and not made up."""
    client, server = pair
    start(server, GRPC_SERVER, tmp_path=tmp_path)
    gate = client.pod.node.run_dir / f"{tmp_path.name}-gate"
    os.mkfifo(gate)
    arguments = (f"{server.ip}:8080", client.pod.node.inside(gate))
    process = start(client, GRPC_CLIENT, *arguments, tmp_path=tmp_path)
    running = tapper([client.pod])
    running.wait_capturing(client.pod)
    gate.open("w").close()
    assert process.stdout is not None
    assert process.stdout.readline() == b"done\n", process.read_log()
    running.wait_for(lambda: len(running.exchanges) >= 4, "four calls")
    running.stop()
    assert len(running.exchanges) == 4
    assert {record["dst"] for record in running.exchanges} == {f"{server.ip}:8080"}
    assert running.exchanges[0]["target"] is None, "the early call had put this path into the table"
    assert running.exchanges[2]["target"] == "/demo.Echo/Count", "this one is new"
    assert {record["incomplete"] for record in running.exchanges} == {"header table unknown"}


def test_h2load_on_both_legs(pair: tuple[MeshPod, MeshPod], running: RunningTapper, tmp_path: Path) -> None:
    """Many streams at a time. The gRPC server knows none of the methods."""
    client, server = pair
    start(server, GRPC_SERVER, tmp_path=tmp_path)
    argv = ["h2load", "-n", "300", "-c", "3", "-m", "20", "-p", "h2c", "-H", ":method: POST"]
    argv += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    output = client.pod.run([*argv, f"http://{server.ip}:8080/x", f"http://{server.ip}:8080/y"], timeout=30)
    assert "300 total, 300 started, 300 done" in output, output
    expected = Counter({"/x": 150, "/y": 150})
    running.wait_for(lambda: all(running.seen(member.pod) == expected for member in pair), "all at both")
    running.stop()
    for member in pair:
        assert running.seen(member.pod) == expected
    assert {record["version"] for record in running.exchanges} == {"HTTP/2"}
    assert {(record["status"], record["grpc"]["status"]) for record in running.exchanges} == {(200, 12)}


TLS_SERVER = """
    import socket

    with socket.create_server(("0.0.0.0", 8080)) as listener:
        print("ready", flush=True)
        connection, _ = listener.accept()
        while connection.recv(4096):
            pass
"""


def test_tls_of_the_applications_own(pair: tuple[MeshPod, MeshPod], running: RunningTapper, tmp_path: Path) -> None:
    """Reported with its server name on both legs, never as HTTP; on the wire it is inside the mesh's."""
    client, server = pair
    start(server, TLS_SERVER, tmp_path=tmp_path)
    outgoing, incoming = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    half = context.wrap_bio(incoming, outgoing, server_hostname="shop.example")
    with pytest.raises(ssl.SSLWantReadError):
        half.do_handshake()
    with client.pod.connect(server.ip, 8080) as connection:
        connection.sendall(outgoing.read())
        running.wait_for(lambda: len(running.of_type("tls")) >= 3, "TLS on all legs, while it lasts")
    running.stop()
    assert len(running.of_type("tls")) == 3
    found = {record["direction"]: record for record in running.of_type("tls")}
    wire = found.pop("node")
    assert wire["sni"].startswith("outbound_.8080")
    assert "istio" in wire["alpn"]
    assert set(found) == {"outbound", "inbound"}
    assert {record["sni"] for record in found.values()} == {"shop.example"}
    assert {tuple(record["alpn"]) for record in found.values()} == {("h2", "http/1.1")}
    assert found["outbound"]["dst"] == found["inbound"]["dst"] == f"{server.ip}:8080"
    assert running.exchanges == []


def test_bytes_that_are_no_http(pair: tuple[MeshPod, MeshPod], running: RunningTapper) -> None:
    client, server = pair
    with server.pod.listen("0.0.0.0", 8080) as listener, client.pod.connect(server.ip, 8080) as outgoing:
        outgoing.sendall(b"PING\x00\xff")
        incoming, _ = listener.accept()
        with incoming:
            assert incoming.recv(100) == b"PING\x00\xff"
            incoming.sendall(b"PONG and more")
            assert outgoing.recv(100) == b"PONG and more"
    running.wait_for(lambda: len(running.of_type("stream")) == 2, "the bytes on both legs")
    running.stop()
    for record in running.of_type("stream"):
        assert (record["client_bytes"], record["server_bytes"], record["what"]) == (6, 13, "other")
        assert (record["client_preview"], record["server_preview"]) == ("", ""), "redaction is on"
    assert running.exchanges == []


WEBSOCKET_SERVER = """
    from websockets.sync.server import serve

    def echo(connection):
        for message in connection:
            connection.send(message if isinstance(message, bytes) else "echo " + message)

    with serve(echo, "0.0.0.0", 8080) as server:
        print("ready", flush=True)
        server.serve_forever()
"""
WEBSOCKET_CLIENT = """
    import sys
    from websockets.sync.client import connect

    with connect(sys.argv[1], proxy=None, compression=sys.argv[2] or None) as connection:
        for word in ("one one one one", "one one one two", b"\\x00\\xff"):
            connection.send(word)
            connection.recv()
"""


@pytest.mark.parametrize("compression", ["", "deflate"])
def test_websocket_messages(
    pair: tuple[MeshPod, MeshPod], running: RunningTapper, tmp_path: Path, compression: str
) -> None:
    client, server = pair
    start(server, WEBSOCKET_SERVER, tmp_path=tmp_path)
    arguments = (f"ws://{server.ip}:8080/chat", compression)
    client.pod.run(python(client.pod, WEBSOCKET_CLIENT, *arguments, tmp_path=tmp_path), timeout=20)
    running.wait_for(lambda: len(running.of_type("websocket")) >= 16, "six messages and two goodbyes at both")
    running.stop()
    assert running.seen() == {"/chat": 2}
    for direction in ("outbound", "inbound"):
        records = [record for record in running.of_type("websocket") if record["direction"] == direction]
        told = [(record["from"], record["opcode"], record["text"] or record["preview_b64"]) for record in records]
        assert told[:6] == [
            ("client", 1, "one one one one"),
            ("server", 1, "echo one one one one"),
            ("client", 1, "one one one two"),
            ("server", 1, "echo one one one two"),
            ("client", 2, "AP8="),
            ("server", 2, "AP8="),
        ]
        assert [record["opcode"] for record in records[6:]] == [8, 8]
        assert not any(record["truncated"] or record["deflated"] for record in records)
