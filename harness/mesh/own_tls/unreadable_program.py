"""A client with a TLS library without symbols: the OpenSSL within the extension module of the package cryptography.

Runs inside a pod (`unreadable_program.py MODULE`); MODULE is a copy of the extension module without symbols. Descriptor
3 is a Unix socket: an order is a line of JSON with an address and the bytes to send, and
the answer says how many bytes came back.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import socket
import sys
from typing import Any

ORDERS_FD = 3
_TIMEOUT_S = 20.0
_AT_ONCE = 1 << 14


class HiddenTls:
    """A TLS connection of that OpenSSL, which works on two memory BIOs (BIO_s_mem(3))."""

    def __init__(self, sock: socket.socket, binding: Any) -> None:
        self._sock, self._lib, self._ffi = sock, binding.lib, binding.ffi
        self._tls = self._lib.SSL_new(self._lib.SSL_CTX_new(self._lib.TLS_method()))
        self._from, self._into = (self._lib.BIO_new(self._lib.BIO_s_mem()) for _ in range(2))
        self._lib.SSL_set_bio(self._tls, self._from, self._into)
        self._lib.SSL_set_connect_state(self._tls)
        self._until(lambda: self._lib.SSL_do_handshake(self._tls))

    def exchange(self, request: bytes) -> int:
        """Send a request, and read until something comes back; returns how many bytes."""
        buffer = self._ffi.new("char[]", _AT_ONCE)
        self._until(lambda: self._lib.SSL_write(self._tls, request, len(request)))
        return self._until(lambda: self._lib.SSL_read(self._tls, buffer, _AT_ONCE))

    def _until(self, step: Any) -> int:
        """Repeat a step until it succeeds, and carry the library's bytes to the socket and from there meanwhile."""
        buffer = self._ffi.new("char[]", _AT_ONCE)
        while True:
            result: int = step()
            while (size := self._lib.BIO_read(self._into, buffer, _AT_ONCE)) > 0:
                self._sock.sendall(self._ffi.buffer(buffer, size)[:])
            if result > 0:
                return result
            data = self._sock.recv(_AT_ONCE)
            if not data:
                raise EOFError("the other end closed")
            self._lib.BIO_write(self._from, data, len(data))


def load(module: str) -> Any:
    """Load that copy in place of the extension module, and return the functions in it."""
    name = "cryptography.hazmat.bindings._rust"
    spec = importlib.util.spec_from_file_location(name, module)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    from cryptography.hazmat.bindings.openssl.binding import Binding  # noqa: PLC0415 - it takes the module from above

    return Binding


def main(module: str) -> None:
    binding = load(module)
    with socket.socket(fileno=ORDERS_FD) as orders, orders.makefile("rwb") as lines:
        for line in lines:
            order = json.loads(line)
            with socket.create_connection((order["host"], order["port"]), _TIMEOUT_S) as sock:
                source = sock.getsockname()[:2]
                size = HiddenTls(sock, binding).exchange(base64.b64decode(order["request"]))
            lines.write(json.dumps({"local": source, "size": size}).encode() + b"\n")
            lines.flush()


if __name__ == "__main__":
    main(sys.argv[1])
