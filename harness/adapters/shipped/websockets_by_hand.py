"""As much of WebSocket (RFC 6455) as the bridges of mizu and of Kubeshark's worker need: text messages, either side."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from collections.abc import Iterator

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA


class HandmadeWebSocket:
    """An open connection. `masked`: whether it masks its messages, as a client has to (section 5.3)."""

    def __init__(self, sock: socket.socket, *, masked: bool) -> None:
        self._sock = sock
        self._masked = masked
        self._rest = b""

    @classmethod
    def accept(cls, listener: socket.socket) -> HandmadeWebSocket:
        """The server's side of the opening handshake with whoever connects."""
        sock, _ = listener.accept()
        made = cls(sock, masked=False)
        fields = dict(line.split(b": ", 1) for line in made._head().split(b"\r\n")[1:] if b": " in line)
        key = {name.lower(): value for name, value in fields.items()}[b"sec-websocket-key"]
        proof = base64.b64encode(hashlib.sha1(key + _GUID).digest())
        sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + proof + b"\r\n\r\n"
        )
        return made

    @classmethod
    def connect(cls, port: int, target: str) -> HandmadeWebSocket:
        """The client's side, to a server on this host. Raises OSError."""
        sock = socket.create_connection(("127.0.0.1", port))
        key = base64.b64encode(os.urandom(16)).decode()
        sock.sendall(
            f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        made = cls(sock, masked=True)
        head = made._head()
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise OSError(f"no WebSocket there: {head[:80]!r}")
        return made

    def send(self, text: str) -> None:
        self._send(_TEXT, text.encode())

    def messages(self) -> Iterator[str]:
        """The other side's text messages, until it closes."""
        whole = b""
        while True:
            try:
                first, payload = self._frame()
            except OSError:
                return
            opcode = first & 0x0F
            if opcode == _CLOSE:
                return
            if opcode == _PING:
                self._send(_PONG, payload)
            elif opcode < _CLOSE:
                whole += payload
                if first & 0x80:
                    yield whole.decode(errors="replace")
                    whole = b""

    def _send(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        length = (
            bytes([size])
            if size < 126
            else b"\x7e" + size.to_bytes(2)
            if size < 1 << 16
            else b"\x7f" + size.to_bytes(8)
        )
        head = bytearray([0x80 | opcode]) + length
        if self._masked:
            head[1] |= 0x80
            head += bytes(4)  # a masking key of zeros changes nothing
        self._sock.sendall(bytes(head) + payload)

    def _frame(self) -> tuple[int, bytes]:
        first, second = self._exactly(2)
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(self._exactly(2 if size == 126 else 8))
        key = self._exactly(4) if second & 0x80 else bytes(4)
        payload = self._exactly(size)
        if any(key):
            payload = bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))
        return first, payload

    def _head(self) -> bytes:
        while b"\r\n\r\n" not in self._rest:
            self._more()
        head, self._rest = self._rest.split(b"\r\n\r\n", 1)
        return head

    def _exactly(self, size: int) -> bytes:
        while len(self._rest) < size:
            self._more()
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def _more(self) -> None:
        data = self._sock.recv(1 << 16)
        if not data:
            raise OSError("the other side has closed")
        self._rest += data
