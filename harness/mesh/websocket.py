"""A WebSocket connection (RFC 6455) of either side, as far as the kit needs it: text messages, no extensions.

With the standard library only: it also runs in pods and in the bridges of some adapters.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct
from collections.abc import Iterator
from typing import Self

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3
FIN = 0x80
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA
_NORMAL = struct.pack("!H", 1000)  # section 7.4.1


class WebSocketConnection:
    """An open connection; a context manager. `client`: this side is the client, which masks its frames (5.3)."""

    def __init__(self, sock: socket.socket, *, client: bool) -> None:
        self._sock = sock
        self._client = client
        self._rest = b""
        self._close_sent = False
        self.closed = False
        """Whether the other side has sent a close frame."""

    @classmethod
    def accepted(cls, sock: socket.socket) -> WebSocketConnection | None:
        """The server's side of the opening handshake. None for any other request, which is answered with 200."""
        connection = cls(sock, client=False)
        _, fields = connection._read_head()
        key = fields.get("sec-websocket-key")
        if key is None:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return None
        head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        sock.sendall(f"{head}Sec-WebSocket-Accept: {_accept(key)}\r\n\r\n".encode())
        return connection

    @classmethod
    def connect(cls, host: str, port: int, target: str, timeout: float | None = None) -> WebSocketConnection:
        """The client's side of the opening handshake. Raises OSError."""
        sock = socket.create_connection((host, port), timeout)
        connection = cls(sock, client=True)
        key = base64.b64encode(os.urandom(16)).decode()
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        head = f"GET {target} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        sock.sendall(f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        first, fields = connection._read_head()
        if " 101 " not in f"{first} " or fields.get("sec-websocket-accept") != _accept(key):
            sock.close()
            raise OSError(f"{target} was not upgraded to a WebSocket: {first[:80]}")
        return connection

    def send(self, text: str) -> None:
        self._send(_TEXT, text.encode())

    def messages(self) -> Iterator[str]:
        """The other side's text messages until it closes or is gone; pings and the close are answered."""
        whole = b""
        while not self.closed:
            try:
                first, payload = self._read_frame()
                opcode = first & 0x0F
                if opcode == _PING:
                    self._send(_PONG, payload)
                elif opcode == _CLOSE:
                    self.closed = True
                    if not self._close_sent:
                        self._send(_CLOSE, payload)
            except OSError:
                return
            if opcode < _CLOSE:
                whole += payload
                if first & FIN:
                    yield whole.decode(errors="replace")
                    whole = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def close(self) -> bool:
        """Send a close frame; whether the other side has answered it."""
        self._send(_CLOSE, _NORMAL)
        self._close_sent = True
        for _ in self.messages():
            pass
        return self.closed

    def _send(self, opcode: int, payload: bytes) -> None:
        self._sock.sendall(frame(FIN | opcode, payload, os.urandom(4) if self._client else None))

    def _read_frame(self) -> tuple[int, bytes]:
        """The first byte (FIN and opcode) and the unmasked payload of the next frame."""
        first, second = self._exactly(2)
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(self._exactly(2 if size == 126 else 8))
        mask = self._exactly(4) if second & 0x80 else bytes(4)
        return first, _masked(self._exactly(size), mask)

    def _read_head(self) -> tuple[str, dict[str, str]]:
        """The first line of a message's head, and its fields by lower-case name."""
        while b"\r\n\r\n" not in self._rest:
            self._more()
        head, self._rest = self._rest.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in lines)
        return first, {name.lower(): value.strip() for name, _, value in fields}

    def _exactly(self, size: int) -> bytes:
        while len(self._rest) < size:
            self._more()
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def _more(self) -> None:
        data = self._sock.recv(1 << 16)
        if not data:
            raise OSError("the other side has closed the connection")
        self._rest += data


def frame(first: int, payload: bytes, mask: bytes | None = None) -> bytes:
    """A frame (section 5.2): `first` is FIN and the opcode; a client's has a mask of 4 bytes."""
    size, masked = len(payload), 0 if mask is None else 0x80
    if size < 126:
        head = struct.pack("!BB", first, masked | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, masked | 126, size)
    else:
        head = struct.pack("!BBQ", first, masked | 127, size)
    return head + payload if mask is None else head + mask + _masked(payload, mask)


def _accept(key: str) -> str:
    """The value of Sec-WebSocket-Accept (section 4.2.2)."""
    return base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()


def _masked(payload: bytes, mask: bytes) -> bytes:
    """The payload masked, or unmasked, which is the same operation (section 5.3)."""
    size = len(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(size)
