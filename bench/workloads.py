"""Known traffic: nginx as the server, h2load as the client, in pods of a sandboxed node.

Every request's path carries a nonce and nginx says it again in the response header x-nonce, so that what a program
reports can be compared with what was sent, requests and answers alike. h2load gives every connection the same list of
paths: each nonce is sent once a connection.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from harness.errors import HarnessError, Unsupported
from harness.mesh import fake_envoy
from harness.mesh.mesh import Mesh
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.sandbox.process import MINIMAL_ENVIRON
from harness.waiting import wait_until

CONNECTIONS = 16
STREAMS = 10
"""Requests under way at once in an HTTP/2 connection."""
PATH = "/api/v1/items/"
NONCE_DIGITS = 16
_LIMIT = 300.0  # seconds that one run of h2load may take

_HEADERS = (
    "accept: application/json, text/plain, */*",
    "accept-language: en-GB,en;q=0.9,de;q=0.7",
    "authorization: Bearer not-a-secret-0123456789abcdef",
    "cache-control: no-cache",
    "cookie: session=0123456789abcdef0123456789abcdef; theme=dark",
    "referer: http://shop.example/catalogue/cards",
    "x-request-id: 7f8b1c6e-54b1-4c0e-9a2a-0c6b2d7f0a11",
    "x-forwarded-for: 203.0.113.7, 10.244.0.9",
    "x-forwarded-proto: https",
    "x-b3-traceid: 463ac35c9f6413ad48485a3953bb6124",
    "x-b3-spanid: a2fb4a1d1a96d312",
)
"""With Host and User-Agent, which h2load adds, thirteen."""


class Protocol(Enum):
    HTTP1 = "HTTP/1.1"
    HTTP2 = "HTTP/2"
    GRPC = "gRPC"

    @property
    def port(self) -> int:
        return 8080 if self is Protocol.HTTP1 else 8081


class Way(Enum):
    """The path of the traffic, and the place of the capture."""

    PLAIN = "plain"
    """Client and server in one pod; captured on its lo."""
    MESH = "mesh"
    """Two pods with real Envoys and mTLS between them; captured on the server pod's lo."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Traffic to measure. `rate` is the number of requests a second over all connections; None: no limit."""

    name: str
    protocol: Protocol = Protocol.HTTP1
    body: int = 500
    """Bytes of each response's body."""
    rate: int | None = 1500
    requests: int = 4800
    way: Way = Way.PLAIN
    connections: int = CONNECTIONS

    @property
    def per_connection(self) -> int:
        return max(1, self.requests // self.connections)


@dataclass(frozen=True, slots=True)
class Sent:
    """The traffic that h2load sent and that the server answered."""

    nonces: Counter[str]
    seconds: float

    @property
    def requests(self) -> int:
        return self.nonces.total()

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


class Site:
    """A node with the pods and servers of one way of traffic. `pod` has the plaintext. `site` makes it."""

    def __init__(self, node: Node, way: Way) -> None:
        self.node = node
        self.way = way
        self._files = node.run_dir / "bench"
        self._files.mkdir()
        self._random = random.Random(0)
        if way is Way.MESH:
            mesh = Mesh(node)
            ports = (Protocol.HTTP1.port, Protocol.HTTP2.port)
            client, server = mesh.pod("client", serve=False), mesh.pod("server", ports=ports, serve=False)
            mesh.inject(client, server)
            self.client, self.pod = client.pod, server.pod
        else:
            self.client = self.pod = node.pod("server")
            fake_envoy.start(self.pod)  # so that the tapper finds the namespace
        _start_nginx(self.pod, self._files)

    def send(self, workload: Workload) -> Sent:
        """Send the workload and wait for the last response. Raises HarnessError unless every status is 200."""
        count = workload.per_connection
        nonces = [f"{self._random.getrandbits(64):0{NONCE_DIGITS}x}" for _ in range(count)]
        host = "127.0.0.1" if self.way is Way.PLAIN else self.pod.ip
        uris = self._files / "uris"
        base = f"http://{host}:{workload.protocol.port}{_prefix(workload)}{PATH}"
        uris.write_text("".join(f"{base}{nonce}\n" for nonce in nonces))
        argv = ["h2load", "-c", str(workload.connections), "-n", str(count * workload.connections)]
        argv += ["-i", Node.inside(uris), *(part for header in _HEADERS for part in ("-H", header))]
        if workload.protocol is Protocol.HTTP1:
            argv += ["--h1"]
        else:
            argv += ["-m", str(STREAMS)]
        if workload.protocol is Protocol.GRPC:
            argv += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
            argv += ["-d", Node.inside(self._files / "message")]
        if workload.rate is not None:
            argv += [f"--rps={workload.rate / workload.connections:g}"]
        told = self.client.run(argv, timeout=_LIMIT)
        return Sent(Counter(dict.fromkeys(nonces, workload.connections)), _seconds(told, count * workload.connections))


@contextmanager
def site(way: Way) -> Iterator[Site]:
    """A context with a fresh node for one way of traffic. Raises Unsupported if the machine lacks a program."""
    missing = [name for name in ("nginx", "h2load") if shutil.which(name, path=MINIMAL_ENVIRON["PATH"]) is None]
    if missing:
        raise Unsupported(
            f"not installed: {' and '.join(missing)}. The traffic is made by them: install nginx-light, nghttp2-client"
        )
    with Node() as node:
        yield Site(node, way)


def _prefix(workload: Workload) -> str:
    return "/grpc" if workload.protocol is Protocol.GRPC else f"/{workload.body}"


def _seconds(told: str, requests: int) -> float:
    """The duration that h2load prints, in seconds."""
    finished = re.search(r"finished in ([\d.]+)(us|ms|s|m)\b", told)
    good = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", told)
    if finished is None or good is None or [int(part) for part in good.groups()] != [requests, 0, 0]:
        raise HarnessError(f"h2load did not get {requests} good answers, so nothing can be compared:\n{told}")
    unit = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}[finished[2]]
    return float(finished[1]) * unit


def _start_nginx(pod: Pod, files: Path) -> None:
    inside = Node.inside(files)
    for size in (500, 10_000):
        (files / f"body-{size}").write_bytes(b"b" * size)
    # gRPC's framing of one message: not compressed, four bytes of length
    (files / "message").write_bytes(b"\0" + (100).to_bytes(4, "big") + b"m" * 100)
    (files / "nginx.conf").write_text(_NGINX.format(files=inside, http1=8080, http2=8081))
    server = pod.spawn(["nginx", "-e", "stderr", "-p", inside, "-c", f"{inside}/nginx.conf"], name="nginx")

    def listening() -> bool:
        if not server.running:
            raise HarnessError(f"nginx ended with {server.returncode}: {server.read_log()}")
        try:
            pod.connect("127.0.0.1", 8081).close()
        except ConnectionRefusedError:
            return False
        return True

    wait_until(listening, "nginx to listen", logs=server.read_log)


_NGINX = """
daemon off; worker_processes 1; user root; pid {files}/nginx.pid; error_log stderr;
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 100000000; keepalive_timeout 1h; open_file_cache max=100;
    sendfile off; tcp_nodelay on; default_type application/json; root {files};
    client_body_temp_path {files}/t1; proxy_temp_path {files}/t2; fastcgi_temp_path {files}/t3;
    uwsgi_temp_path {files}/t4; scgi_temp_path {files}/t5;
    map $uri $nonce {{ ~/items/(?<found>[0-9a-f]+)$ $found; }}
    map $request_uri $said {{ ~/items/(?<again>[0-9a-f]+)$ $again; }}
    server {{
        listen {http1}; listen {http2} http2;
        add_header x-nonce $said;
        location /500/ {{ rewrite ^ /body-500 break; }}
        location /10000/ {{ rewrite ^ /body-10000 break; }}
        # nginx serves no static file for POST, except as an error page
        location /grpc/ {{ error_page 405 =200 /message; return 405; }}
        location = /message {{
            default_type application/grpc; error_page 405 =200 /message;
            add_header x-nonce $said; add_trailer grpc-status 0;
        }}
    }}
}}
"""


def version(name: str) -> str:
    """The first line of a program's output for its version."""
    done = subprocess.run([name, "-v" if name == "nginx" else "--version"], capture_output=True, text=True, check=False)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return lines[0].strip() if lines else "unknown"
