"""Sends one request within a pod, on its lo, past its sidecar and its application: `python -m … NONCE`.

It proves that a tapper captures in the pod, whatever protocol the application speaks, and opens no connection between
sidecars, so that the traffic of the scenario opens them.
"""

from __future__ import annotations

import socket
import sys
import threading

PORT = 18080
_TIMEOUT_S = 10.0


def main() -> int:
    nonce = sys.argv[1].encode("ascii")
    with socket.create_server(("127.0.0.1", PORT)) as server:
        asking = threading.Thread(target=_ask, args=(nonce,))
        asking.start()
        line, _ = server.accept()
        with line:
            line.settimeout(_TIMEOUT_S)
            _read(line, b"\r\n\r\n")
            line.sendall(b"HTTP/1.1 200 OK\r\nx-nonce: %b\r\nContent-Length: 3\r\n\r\nok\n" % nonce)
            asking.join()
    return 0


def _ask(nonce: bytes) -> None:
    with socket.create_connection(("127.0.0.1", PORT), _TIMEOUT_S) as line:
        line.sendall(b"GET /canary/%b HTTP/1.1\r\nHost: canary\r\nx-nonce: %b\r\n\r\n" % (nonce, nonce))
        _read(line, b"ok\n")


def _read(line: socket.socket, end: bytes) -> None:
    read = b""
    while not read.endswith(end):
        data = line.recv(4096)
        if not data:
            raise ConnectionError(f"the connection ended after {read!r}")
        read += data


if __name__ == "__main__":
    sys.exit(main())
