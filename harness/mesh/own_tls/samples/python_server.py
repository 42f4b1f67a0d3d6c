"""An HTTPS server on Python's sockets: `python_server.py PEM PORT`. It answers each GET with 200."""

from __future__ import annotations

import socket
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class SampleHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "7")
        self.end_headers()
        self.wfile.write(b"python\n")

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


class SampleServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("::", port), SampleHandler, bind_and_activate=False)
        self.socket.close()
        self.socket = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)


if __name__ == "__main__":
    server = SampleServer(int(sys.argv[2]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1])
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()
