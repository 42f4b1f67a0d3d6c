"""A WebSocket server that sends back what it gets, and a client (RFC 6455); one frame a message, no extensions.

    python -m harness.worlds.programs.websocket serve --port 8080
    python -m harness.worlds.programs.websocket ask --kind websocket --url http://HOST:PORT/PREFIX --rate 5 --count 3

The client opens one connection and prints a line of JSON for each message that came back: nonce, method "WS", target
(of the connection), status 200. Ends with 1 unless all did.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import socket
import socketserver
import struct
import sys
import time
import urllib.parse
import uuid
from io import BufferedIOBase

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE = 1, 8
_TIMEOUT_S = 10.0


def accept_key(key: str) -> str:
    """The value of Sec-WebSocket-Accept (section 4.2.2)."""
    return base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()


def frame(opcode: int, payload: bytes, mask: bytes | None = None) -> bytes:
    """One final frame; clients have to mask (section 5.3). Payloads below 64 KiB."""
    size = len(payload)
    masked = 0x80 if mask is not None else 0
    head = (
        struct.pack("!BB", 0x80 | opcode, masked | size)
        if size < 126
        else (struct.pack("!BBH", 0x80 | opcode, masked | 126, size))
    )
    return head + (mask or b"") + (_masked(payload, mask) if mask is not None else payload)


def read_frame(source: BufferedIOBase) -> tuple[int, bytes]:
    """The next frame's opcode and payload, unmasked. Raises EOFError where there is none."""
    first, second = _exactly(source, 2)
    size = second & 0x7F
    if size == 126:
        (size,) = struct.unpack("!H", _exactly(source, 2))
    mask = _exactly(source, 4) if second & 0x80 else None
    payload = _exactly(source, size)
    return first & 0x0F, payload if mask is None else _masked(payload, mask)


def _masked(payload: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def _exactly(source: BufferedIOBase, size: int) -> bytes:
    data = source.read(size)
    if len(data) != size:
        raise EOFError("the connection ended within a frame")
    return data


def read_head(source: BufferedIOBase) -> tuple[str, dict[str, str]]:
    """The first line, and the header fields by lower-case name."""
    first = source.readline().decode().strip()
    fields = {}
    while line := source.readline().decode().strip():
        name, _, value = line.partition(":")
        fields[name.lower()] = value.strip()
    return first, fields


class WebSocketEcho(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        _, fields = read_head(self.rfile)
        if "sec-websocket-key" not in fields:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")  # a probe of the kubelet
            return
        answer = accept_key(fields["sec-websocket-key"])
        head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self.wfile.write(f"{head}Sec-WebSocket-Accept: {answer}\r\n\r\n".encode())
        try:
            while True:
                opcode, payload = read_frame(self.rfile)
                self.wfile.write(frame(opcode, payload))
                if opcode == CLOSE:
                    return
        except EOFError:
            return


class WebSocketServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def ask(url: str, count: int, rate: float) -> bool:
    parts = urllib.parse.urlsplit(url)
    target = f"{parts.path}/nonce-{uuid.uuid4().hex}"
    with (
        socket.create_connection((parts.hostname, parts.port or 80), _TIMEOUT_S) as line,
        line.makefile("rb") as source,
    ):
        key = base64.b64encode(os.urandom(16)).decode()
        head = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        line.sendall(f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        first, fields = read_head(source)
        if " 101 " not in f"{first} " or fields.get("sec-websocket-accept") != accept_key(key):
            raise ConnectionError(f"{target} was not upgraded: {first}")
        for number in range(count):
            nonce = f"nonce-{uuid.uuid4().hex}"
            line.sendall(frame(TEXT, nonce.encode(), os.urandom(4)))
            if read_frame(source) != (TEXT, nonce.encode()):
                return False
            said = {"nonce": nonce, "method": "WS", "target": target, "status": 200}
            sys.stdout.write(json.dumps(said) + "\n")
            sys.stdout.flush()
            if number + 1 < count:
                time.sleep(1 / rate)
        line.sendall(frame(CLOSE, struct.pack("!H", 1000), os.urandom(4)))
        return read_frame(source)[0] == CLOSE


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
