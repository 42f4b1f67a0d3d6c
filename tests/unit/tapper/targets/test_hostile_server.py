"""Answers of an API server without an end, or of any size: each is refused with its reason."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tapper.targets import podsapi
from tapper.targets.podlist import ApiError
from tapper.targets.podsapi import Access, PodsApi

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


@contextmanager
def serving(answer: Callable[[socket.socket], object]) -> Iterator[int]:
    """Answers each request on each connection, at a port of the loopback address."""

    def converse(connection: socket.socket) -> None:
        with connection:
            try:
                while b"\r\n\r\n" in connection.recv(1 << 16):
                    answer(connection)
            except OSError:
                pass

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=converse, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def refusal(folder: Path, answer: Callable[[socket.socket], object]) -> str:
    with serving(answer) as port:
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "x",
                    "users": [{"name": "u", "user": {}}],
                }
            )
        )
        with pytest.raises(ApiError) as raised:
            PodsApi(Access(str(kubeconfig)), "node-1").list("shop")
        return str(raised.value)


def test_pages_without_an_end(tmp_path: Path) -> None:
    page = b'{"items":[],"metadata":{"resourceVersion":"1","continue":"more"}}'
    assert "more than 200 pages" in refusal(tmp_path, lambda it: it.sendall(HEAD % len(page) + page))


def test_a_page_that_comes_octet_by_octet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(podsapi, "LIST_S", 0.3)
    pause = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(HEAD % 100_000)
        while not pause.wait(0.02):
            connection.sendall(b" ")

    assert "does not come to its end in time" in refusal(tmp_path, drip)


def test_a_page_of_any_size(tmp_path: Path) -> None:
    def flood(connection: socket.socket) -> None:
        connection.sendall(HEAD % (1 << 40))
        while True:
            connection.sendall(b" " * (1 << 20))

    assert "take more than 16777216 bytes" in refusal(tmp_path, flood)
