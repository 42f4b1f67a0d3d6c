"""The kit's WebSocket against the package websockets, on either side."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest
from websockets.sync.client import connect
from websockets.sync.server import Server, ServerConnection, serve

from harness.mesh.websocket import WebSocketConnection

TEXTS = ["", "a", "ü" * 100, "x" * 300, "y" * 70_000]


def echo(connection: WebSocketConnection) -> None:
    for message in connection.messages():
        connection.send(message)


def serving(handle: Callable[[WebSocketConnection | None], None]) -> int:
    """Accept one connection on a thread; the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with listener:
            sock, _ = listener.accept()
        with sock:
            handle(WebSocketConnection.accepted(sock))

    threading.Thread(target=run, daemon=True).start()
    return int(listener.getsockname()[1])


def test_a_client_of_another_program_is_served() -> None:
    def handle(connection: WebSocketConnection | None) -> None:
        assert connection is not None
        echo(connection)

    with connect(f"ws://127.0.0.1:{serving(handle)}/", compression=None) as client:
        assert client.ping().wait(10)
        for text in TEXTS:
            client.send(text)
            assert client.recv(10) == text
        client.send(["in ", "two pieces"])
        assert client.recv(10) == "in two pieces"
    assert client.protocol.close_code == 1000


def test_a_request_that_is_no_handshake_is_answered() -> None:
    accepted: list[WebSocketConnection | None] = []
    with socket.create_connection(("127.0.0.1", serving(accepted.append)), 10) as probe:
        probe.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
        assert probe.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
        assert probe.recv(100) == b""
    assert accepted == [None]


def server_of_another_program(handle: Callable[[ServerConnection], None]) -> Server:
    server = serve(handle, "127.0.0.1", 0, compression=None)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def test_a_server_of_another_program_is_asked() -> None:
    def handle(connection: ServerConnection) -> None:
        assert connection.ping().wait(10)
        for message in connection:
            connection.send(message)

    with server_of_another_program(handle) as server:
        port = server.socket.getsockname()[1]
        with WebSocketConnection.connect("127.0.0.1", port, "/", 10) as client:
            echoes = client.messages()
            for text in TEXTS:
                client.send(text)
                assert next(echoes) == text
            assert client.close()


def test_the_end_of_the_other_side_ends_the_messages() -> None:
    def handle(connection: ServerConnection) -> None:
        connection.send("last words")
        connection.close(1001)

    with server_of_another_program(handle) as server:
        port = server.socket.getsockname()[1]
        with WebSocketConnection.connect("127.0.0.1", port, "/", 10) as client:
            assert list(client.messages()) == ["last words"]
            assert client.closed


def test_a_server_that_is_none_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(1000)
                sock.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=refuse, daemon=True).start()
        with pytest.raises(OSError, match=r"/none was not upgraded to a WebSocket: HTTP/1.1 404 Not Found"):
            WebSocketConnection.connect("127.0.0.1", listener.getsockname()[1], "/none", 10)
