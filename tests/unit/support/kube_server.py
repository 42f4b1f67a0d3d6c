"""An API server for pods that answers as a real one did (kube-apiserver 1.34.2; tapper/targets/recorded).

It keeps events by resource version, streams them in chunks to whoever watches, forgets the old ones, breaks
connections, refuses, goes away and comes back on the same port. As a program it is told what to do on standard input:
a line of JSON each, `["emit", "…"]` the name of a method and its arguments.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

RECORDED = Path(__file__).parents[1] / "tapper/targets/recorded"
GONE = (RECORDED / "410-event.jsonl").read_bytes()


def recorded(name: str) -> Any:
    """A recorded answer."""
    return json.loads((RECORDED / name).read_bytes())


def recorded_events() -> list[str]:
    """What a watch brought after list.json: a line each."""
    return (RECORDED / "watch.jsonl").read_text(encoding="utf-8").splitlines()


def pod(name: str, ips: list[str], **changes: Any) -> dict[str, Any]:
    """The recorded pod shop/cart-1 under another name, with other addresses."""
    made: dict[str, Any] = next(item for item in recorded("list.json")["items"] if item["metadata"]["name"] == "cart-1")
    made["metadata"] |= {"name": name, "uid": f"uid-of-{name}", "namespace": changes.pop("namespace", "shop")}
    made["status"] |= {"podIP": ips[0] if ips else "", "podIPs": [{"ip": ip} for ip in ips]} | changes
    return made


class KubeServer:
    """Lists `items` as of `version`, and watches from there."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self.version = 0
        self.requests: list[tuple[str, dict[str, str]]] = []
        """Paths and queries, in order."""
        self.tokens: list[str] = []
        """What came as Authorization with each of them."""
        self.events: list[tuple[int, bytes]] = []
        self._oldest = 0
        self._answers: dict[str, tuple[int, bytes]] = {}
        self._pages: dict[str, bytes] = {}
        self._changed = threading.Condition()
        self._connections: set[socket.socket] = set()
        self._epoch = 0
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    # What it is told.

    def begin(self, port: int = 0) -> None:
        """Listen on loopback, by default where it listened before."""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                owner._enter(self)

            def do_GET(self) -> None:
                owner._get(self)

            def finish(self) -> None:
                owner._leave(self)
                super().finish()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port or self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def end(self) -> None:
        """Go away, and take all connections along."""
        server, self._server = self._server, None
        assert server is not None
        server.shutdown()
        server.server_close()
        self.drop()

    def put(self, items: list[dict[str, Any]], version: int) -> None:
        """What the next list says."""
        with self._changed:
            self.items, self.version = items, version

    def emit(self, line: str) -> None:
        """An event, whose version becomes that of the next list. Its pods are put or removed there, too."""
        event = json.loads(line)
        made = event["object"]
        with self._changed:
            self.version = int(made["metadata"]["resourceVersion"])
            if event["type"] != "BOOKMARK":
                self.items = [item for item in self.items if item["metadata"]["uid"] != made["metadata"]["uid"]]
            if event["type"] in ("ADDED", "MODIFIED"):
                self.items.append(made)
            self.events.append((self.version, line.encode() + b"\n"))
            self._changed.notify_all()

    def change(self, kind: str, item: dict[str, Any]) -> None:
        """The next version's event."""
        item["metadata"]["resourceVersion"] = str(self.version + 1)
        self.emit(json.dumps({"type": kind, "object": item}))

    def forget(self) -> None:
        """Compact: whoever watches from a version before this one is told that it is too old."""
        with self._changed:
            self._oldest = self.version
            self.events.clear()

    def drop(self) -> None:
        """Break all connections, those on which nothing is asked at the moment, too."""
        with self._changed:
            self._epoch += 1
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # the other side was faster
            self._changed.notify_all()

    def finish(self) -> None:
        """End all watches in good order, as after their time."""
        with self._changed:
            self._epoch += 1
            self._changed.notify_all()

    def answer(self, kind: str, status: int, body: str) -> None:
        """Answer every list or watch so; 0 is no longer."""
        self._answers[kind] = status, body.encode()
        if not status:
            del self._answers[kind]

    # What it does.

    def _enter(self, request: BaseHTTPRequestHandler) -> None:
        """From now on the connection can be broken. One that was accepted by a server that has gone away since is."""
        with self._changed:
            self._connections.add(request.connection)
            if request.server is not self._server:
                request.connection.shutdown(socket.SHUT_RDWR)

    def _leave(self, request: BaseHTTPRequestHandler) -> None:
        with self._changed:
            self._connections.discard(request.connection)

    def _get(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        with self._changed:
            self.requests.append((parts.path, query))
            self.tokens.append(request.headers.get("Authorization", ""))
        try:
            kind = "watch" if "watch" in query else "list"
            if kind in self._answers:
                self._send(request, *self._answers[kind])
            elif kind == "watch":
                self._watch(request, parts.path, int(query["resourceVersion"]))
            else:
                self._list(request, parts.path, query)
        except OSError:
            request.close_connection = True  # it was dropped, here or there

    def _list(self, request: BaseHTTPRequestHandler, path: str, query: dict[str, str]) -> None:
        with self._changed:
            items = [item for item in self.items if _selected(path, item)]
            version = self.version
        begin, limit = int(query.get("continue", 0)), min(int(query.get("limit", 500)), 4)
        metadata = {"resourceVersion": str(version)}
        if begin + limit < len(items):
            metadata["continue"] = str(begin + limit)
        page = recorded("list.json") | {"metadata": metadata, "items": items[begin : begin + limit]}
        self._send(request, 200, json.dumps(page).encode())

    def _send(self, request: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _watch(self, request: BaseHTTPRequestHandler, path: str, version: int) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        with self._changed:
            epoch = self._epoch
            if version < self._oldest:
                _chunk(request, GONE)
                epoch -= 1
            while epoch == self._epoch:
                for number, line in self.events:
                    if number > version:
                        version = number
                        if _selected(path, json.loads(line)["object"]):
                            _chunk(request, line[:40])  # lines and chunks have nothing to do with each other
                            _chunk(request, line[40:])
                self._changed.wait()
            _chunk(request, b"")


def _chunk(request: BaseHTTPRequestHandler, data: bytes) -> None:
    request.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


def _selected(path: str, item: dict[str, Any]) -> bool:
    """By namespace. Other selections are not this server's affair: tests look at what it was asked."""
    namespace = item.get("metadata", {}).get("namespace")
    return namespace is None or path in ("/api/v1/pods", f"/api/v1/namespaces/{namespace}/pods")


def kubeconfig(port: int, namespace: str = "shop", token: str = "t") -> str:
    """A kubeconfig, which is YAML, of which JSON is a part."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [
            {"name": "test", "context": {"cluster": "c", "user": "u", "namespace": namespace}},
            {"name": "bare", "context": {"cluster": "c", "user": "u"}},
        ],
    }
    return json.dumps(document)


def main() -> None:
    server = KubeServer()
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        value = getattr(server, name)
        sys.stdout.write(json.dumps(value(*arguments) if callable(value) else value) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
