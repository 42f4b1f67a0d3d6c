"""Small exchanges over TLS on one connection, each message in one call of the library.

    tls_load.py serve PEM PORT            answers on one connection, until it is closed
    tls_load.py ask HOST PORT COUNT RATE  sends so many requests, at most so many a second (0: no limit)

At its end each prints {"cpu_seconds", "seconds"} of the exchanges. It uses the standard library only.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import time

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n" + b"a" * 200
_AT_ONCE = 4096
_TOGETHER = 20
"""Requests from one look at the clock to the next."""


def serve(pem: str, port: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with socket.create_server(("0.0.0.0", int(port))) as listening:  # in a pod of its own
        print("ready", flush=True)  # noqa: T201
        accepted, _ = listening.accept()
    connection = context.wrap_socket(accepted, server_side=True)
    begun, spent = time.monotonic(), time.process_time()
    while connection.recv(_AT_ONCE):
        connection.sendall(_ANSWER)
    tell(begun, spent)


def ask(host: str, port: str, count: str, rate: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = context.wrap_socket(socket.create_connection((host, int(port))))
    begun, spent = time.monotonic(), time.process_time()
    for number in range(int(count)):
        if int(rate) and number % _TOGETHER == 0:
            time.sleep(max(0.0, begun + number / int(rate) - time.monotonic()))
        connection.sendall(b"GET /orders/%d HTTP/1.1\r\nHost: shop\r\n\r\n" % number)
        received = 0
        while received < len(_ANSWER):
            received += len(connection.recv(_AT_ONCE))
    tell(begun, spent)
    connection.close()


def tell(begun: float, spent: float) -> None:
    report = {"cpu_seconds": time.process_time() - spent, "seconds": time.monotonic() - begun}
    print(json.dumps(report), flush=True)  # noqa: T201


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    else:
        ask(*sys.argv[2:])
