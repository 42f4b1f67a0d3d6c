"""A Docker daemon that builds nothing: it keeps what it is sent, and answers as the Engine's API 1.41 does.

It listens on a socket of its own, which DOCKER_HOST names, and knows as much as `harness check --kind` asks for.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import urlsplit

IMAGE_ID = "0123456789ab"
ARCHIVE = b"the image, as docker save writes it"
BUILT = ({"stream": f"Successfully built {IMAGE_ID}\n"},)


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


class DockerServer:
    """`output` is what a build says, an object each. `host` is for DOCKER_HOST."""

    def __init__(self, host: str, output: Sequence[dict[str, Any]]) -> None:
        self.host = host
        self.output = output
        self.contexts: list[bytes] = []
        """The archives (tar) that builds were sent."""
        self.queries: list[str] = []
        """And their parameters."""

    def unpack(self, folder: Path) -> None:
        """What the only build was sent, as the builder lays it out."""
        (context,) = self.contexts
        with tarfile.open(fileobj=io.BytesIO(context)) as content:
            content.extractall(folder, filter="data")


@contextmanager
def docker_server(output: Sequence[dict[str, Any]] = BUILT) -> Iterator[DockerServer]:
    """One, until the end of the block."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/docker.sock"
        made = DockerServer(f"unix://{path}", output)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _get(self)

            def do_POST(self) -> None:
                _post(self, made)

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = _Server(path, Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _get(request: BaseHTTPRequestHandler) -> None:
    path = urlsplit(request.path).path.removeprefix("/v1.41")
    if path == "/version":
        _send(request, {"ApiVersion": "1.41", "MinAPIVersion": "1.12"})
    elif path == "/networks":
        _send(request, [])
    elif path == f"/images/{IMAGE_ID}/json":
        _send(request, {"Id": f"sha256:{IMAGE_ID}", "RepoTags": ["tapper-harness:dev"]})
    elif path.startswith("/images/") and path.endswith("/get"):
        _send_bytes(request, 200, ARCHIVE)
    else:
        _send_bytes(request, 404, json.dumps({"message": f"this daemon knows no {path}"}).encode())


def _post(request: BaseHTTPRequestHandler, server: DockerServer) -> None:
    parts = urlsplit(request.path)
    assert parts.path == "/v1.41/build", parts.path
    server.queries.append(parts.query)
    server.contexts.append(_body(request))
    _send_bytes(request, 200, "".join(f"{json.dumps(each)}\r\n" for each in server.output).encode())


def _body(request: BaseHTTPRequestHandler) -> bytes:
    if "Content-Length" in request.headers:
        return request.rfile.read(int(request.headers["Content-Length"]))
    parts = []
    while size := int(request.rfile.readline(), 16):
        parts.append(request.rfile.read(size))
        request.rfile.readline()
    return b"".join(parts)


def _send(request: BaseHTTPRequestHandler, document: object) -> None:
    _send_bytes(request, 200, json.dumps(document).encode())


def _send_bytes(request: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
