"""A WebSocket server that sends back what it gets, and a client (RFC 6455); one frame a message, no extensions.

    python -m harness.worlds.programs.websocket serve --port 8080
    python -m harness.worlds.programs.websocket ask --kind websocket --url http://HOST:PORT/PREFIX --rate 5 --count 3

The client opens one connection and prints a line of JSON for each message that came back: nonce, method "WS", target
(of the connection), status 200. Ends with 1 unless all did.
"""

from __future__ import annotations

import argparse
import json
import socketserver
import sys
import time
import urllib.parse
import uuid

from harness.mesh.websocket import WebSocketConnection

_TIMEOUT_S = 10.0


class WebSocketEcho(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        connection = WebSocketConnection.accepted(self.request)
        if connection is not None:
            for message in connection.messages():
                connection.send(message)


class WebSocketServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def ask(url: str, count: int, rate: float) -> bool:
    parts = urllib.parse.urlsplit(url)
    target = f"{parts.path}/nonce-{uuid.uuid4().hex}"
    with WebSocketConnection.connect(str(parts.hostname), parts.port or 80, target, _TIMEOUT_S) as connection:
        echoes = connection.messages()
        for number in range(count):
            nonce = f"nonce-{uuid.uuid4().hex}"
            connection.send(nonce)
            if next(echoes, None) != nonce:
                return False
            sys.stdout.write(json.dumps({"nonce": nonce, "method": "WS", "target": target, "status": 200}) + "\n")
            sys.stdout.flush()
            if number + 1 < count:
                time.sleep(1 / rate)
        return connection.close()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["serve", "ask"])
    parser.add_argument("--port", type=int)
    parser.add_argument("--kind", choices=["websocket"])
    parser.add_argument("--url")
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--count", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.what == "serve":
        WebSocketServer(("", arguments.port), WebSocketEcho).serve_forever()
    return 0 if ask(arguments.url, arguments.count, arguments.rate) else 1


if __name__ == "__main__":
    sys.exit(main())
