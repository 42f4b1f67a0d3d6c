"""The sample application: an HTTP/1.1 server that says who it is and echoes the request's nonce.

Runs as a program of its own inside a pod (`python app.py --name NAME --port PORT`), with the standard library only.

    GET|HEAD  anything       200, JSON {"pod", "path", "nonce"}; the nonce also as header x-nonce
    POST|PUT  anything       200, the body as it came
    GET /status/N            status N, without a body for 204 and 304
    GET /bytes/N             N bytes, with Content-Length
    GET /chunked/N           N chunks, Transfer-Encoding: chunked
    GET /close               an answer that ends with the connection
"""

from __future__ import annotations

import argparse
import json
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NONCE_HEADER = "x-nonce"


class AppHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "tapper-harness-app"
    disable_nagle_algorithm = True
    pod_name = ""
    wbufsize = -1  # one write for head and body, so that an answer is one segment where it fits

    def do_GET(self) -> None:
        kind, _, argument = self.path.partition("?")[0].lstrip("/").partition("/")
        if kind == "status" and argument.isdigit():
            self._answer(int(argument), b"" if argument in ("204", "304") else b"status\n")
        elif kind == "bytes" and argument.isdigit():
            self._answer(200, b"x" * int(argument))
        elif kind == "chunked" and argument.isdigit():
            self._answer_in_chunks(int(argument))
        elif kind == "close":
            self._answer_until_close()
        else:
            self._answer(200, self._about())

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._answer(200, self._body())

    do_PUT = do_POST

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: a line for each request would only slow it down."""

    def _about(self) -> bytes:
        about = {"pod": self.pod_name, "path": self.path, "nonce": self.headers.get(NONCE_HEADER)}
        return json.dumps(about).encode() + b"\n"

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self._send_nonce()
        if status not in (204, 304):
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _answer_in_chunks(self, count: int) -> None:
        self.send_response(200)
        self._send_nonce()
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(count):
            chunk = f"chunk {number}\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def _answer_until_close(self) -> None:
        self.send_response(200)
        self._send_nonce()
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(self._about())

    def _send_nonce(self) -> None:
        nonce = self.headers.get(NONCE_HEADER)
        if nonce is not None:
            self.send_header(NONCE_HEADER, nonce)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return body


class AppServer(ThreadingHTTPServer):
    address_family = socket.AF_INET6  # and IPv4 with it
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name: str, port: int) -> None:
        super().__init__(("::", port), type("NamedHandler", (AppHandler,), {"pod_name": name}))

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # a container that starts again is in the old namespace of its pod, where connections linger in
        # TIME_WAIT
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    AppServer(arguments.name, arguments.port).serve_forever()


if __name__ == "__main__":
    main()
