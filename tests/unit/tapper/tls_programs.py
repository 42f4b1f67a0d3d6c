"""Programs that speak HTTPS in pods, for the tests of --tls. Each is run by this interpreter unless its name says
else."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from harness.sandbox.pod import Pod
from harness.sandbox.process import Process
from harness.waiting import wait_until

# Answers each request with its method, path and body's length, or for /body/N with N bytes. With the argument `threads`
# each connection is blocking, with `memory` TLS works on memory (asyncio).
SERVER = """
import asyncio, http.server, socketserver, ssl, sys, threading
certificate, port, way = sys.argv[1], int(sys.argv[2]), sys.argv[3]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate)
def answer(method, path, size):
    if path.startswith("/body/"):
        return path[-1:].encode() * int(path.split("/")[2])
    return f"{method} {path} {size}".encode()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        size = int(self.headers.get("Content-Length", 0))
        self.rfile.read(size)
        body = answer(self.command, self.path, size)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *arguments): pass
async def talk(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\\r\\n\\r\\n")).decode().split("\\r\\n")
            size = sum(int(line[15:]) for line in head if line.lower().startswith("content-length:"))
            await reader.readexactly(size)
            body = answer(*head[0].split()[:2], size)
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
            await writer.drain()
    except asyncio.IncompleteReadError:
        writer.close()
async def serve():
    server = await asyncio.start_server(talk, "0.0.0.0", port, ssl=context)
    print("ready", flush=True)
    await server.serve_forever()
if way == "memory":
    asyncio.run(serve())
server = http.server.ThreadingHTTPServer(("::" if way == "mapped" else "0.0.0.0", port), Handler, False)
if way == "mapped":
    import socket
    server.socket = socket.socket(socket.AF_INET6)
    server.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
server.allow_reuse_address = True
server.server_bind()
server.server_activate()
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print("ready", flush=True)
server.serve_forever()
"""

# Sends a request for each path in turn, on one connection: `client ADDRESS PORT PATH…`. The module ssl is imported
# after a line on standard input. `/retried/N` posts N bytes on a socket that does not block, and tries again.
CLIENT = """
import socket, sys
print("ready", flush=True)
sys.stdin.readline()
import select, ssl
context = ssl._create_unverified_context()
sock = context.wrap_socket(socket.create_connection((sys.argv[1], int(sys.argv[2]))))
for path in sys.argv[3:]:
    size = int(path.split("/")[2]) if path.startswith("/retried/") else 0
    data = f"POST {path} HTTP/1.1\\r\\nHost: shop\\r\\nContent-Length: {size}\\r\\n\\r\\n".encode() + b"r" * size
    sock.setblocking(not size)
    tries = 0
    while data:
        try:
            data = data[sock.send(data):]
        except ssl.SSLWantWriteError:
            tries += 1
            select.select([], [sock], [])
    sock.setblocking(True)
    received = b""
    while b"\\r\\n\\r\\n" not in received:
        received += sock.recv(65536)
    head, _, body = received.partition(b"\\r\\n\\r\\n")
    size = int(head.lower().split(b"content-length:")[1].split(b"\\r\\n")[0])
    while len(body) < size:
        body += sock.recv(1 << 20)
    print(path, len(body), tries, flush=True)
"""

NODE_SERVER = """
const https = require("https"), pem = require("fs").readFileSync(process.argv[2]);
https.createServer({key: pem, cert: pem}, (request, response) => {
    request.resume().on("end", () => response.end("node " + request.url));
}).listen(+process.argv[3], () => console.log("ready"));
"""

NGINX = """
daemon off; error_log stderr; pid {folder}/pid;
events {{}}
http {{
    access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{
        listen {port} ssl http2; ssl_certificate {certificate}; ssl_certificate_key {certificate};
        location / {{ return 200 "nginx $request_uri"; }}
    }}
}}
"""


def certificate() -> str:
    """A key and a certificate that nobody trusts, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    certificate_pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return (key_pem + certificate_pem).decode()


class Programs:
    """Starts programs in the pods of one node."""

    def __init__(self, pod: Pod) -> None:
        self._folder = pod.node.run_dir / "tls"
        self._folder.mkdir()
        self._node = pod.node
        self.certificate = self.file("certificate.pem", certificate())

    def file(self, name: str, text: str) -> str:
        """The path of a file inside the node."""
        path: Path = self._folder / name
        path.write_text(text)
        return self._node.inside(path)

    def serve(self, pod: Pod, port: int, way: str = "threads") -> Process:
        """A server of Python, of Node.js (`node`), or nginx. It is ready."""
        if way == "node":
            argv = ["node", self.file("server.js", NODE_SERVER), self.certificate, str(port)]
        elif way == "nginx":
            folder = self._folder / f"nginx-{port}"
            folder.mkdir()
            text = NGINX.format(folder=self._node.inside(folder), port=port, certificate=self.certificate)
            argv = ["nginx", "-c", self.file("nginx.conf", text), "-e", "stderr"]
        else:
            argv = [sys.executable, "-I", "-S", self.file("server.py", SERVER), self.certificate, str(port), way]
        process = pod.spawn(argv, name=f"server-{port}")
        if way == "nginx":
            wait_until(lambda: _listens(pod, port), "nginx to listen", logs=process.read_log)
        else:
            wait_until(lambda: "ready" in process.read_log(), "the server to be ready", logs=process.read_log)
        return process

    def client(self, address: str, port: int, *paths: str) -> list[str]:
        """The command line of a client of Python."""
        return [sys.executable, "-I", "-S", self.file("client.py", CLIENT), address, str(port), *paths]


def _listens(pod: Pod, port: int) -> bool:
    try:
        pod.connect(pod.ip, port, timeout=2).close()
    except OSError:
        return False
    return True
