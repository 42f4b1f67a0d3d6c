"""Well-known applications that speak HTTPS, in pods of the sandbox: servers and clients of several TLS libraries.

    server = applications.serve(pod, "nginx")
    answered = applications.ask(client, "curl", pod.ip)

What is not installed says why (`missing`).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.errors import HarnessError, Unsupported
from harness.mesh.own_tls.ends import PORT, certificate_file
from harness.mesh.traffic import AnsweredRequest, new_nonce
from harness.sandbox.pod import Pod
from harness.sandbox.process import MINIMAL_ENVIRON, Command, Process

_SAMPLES = Path(__file__).with_name("samples")
_GO_FOLDERS = ("/usr/local/go/bin",)
_ENDS_S = 30.0
_BUILD_S = 300.0
_NGINX = """
daemon off; pid {folder}/pid; error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
    uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
    server {{
        listen [::]:{port} ssl http2 ipv6only=off; ssl_certificate {pem}; ssl_certificate_key {pem};
        location / {{ return 200 "nginx\\n"; }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class TlsApplication:
    """A server or a client."""

    library: str
    """As the tapper's records name it: `openssl`, `gnutls`, `go`."""
    program: str
    package: str
    """Debian's package that has the program."""
    argv: Callable[..., list[str]]
    """The command line: of a server for the pod, the PEM file and the port; of a client for the URLs."""


def _nginx(pod: Pod, pem: str, port: int) -> list[str]:
    folder = pod.node.run_dir / f"nginx-{pod.name}-{port}"
    folder.mkdir()
    inside = pod.node.inside(folder)
    (folder / "nginx.conf").write_text(_NGINX.format(folder=inside, port=port, pem=pem))
    return ["nginx", "-c", f"{inside}/nginx.conf", "-e", "stderr"]


def _sample(program: str, name: str) -> Callable[[Pod, str, int], list[str]]:
    return lambda _, pem, port: [program, str(_SAMPLES / name), pem, str(port)]


_CURL = ["curl", "--silent", "--show-error", "--fail", "--insecure", "--output", "/dev/null"]


def _which(program: str) -> str | None:
    path = ":".join([MINIMAL_ENVIRON["PATH"], *_GO_FOLDERS])
    return shutil.which(program, path=path)


@cache
def go_program() -> str:
    """The sample of Go, compiled without symbols, as programs in images are. Raises HarnessError with the compiler's
    words."""
    folder = Path(tempfile.mkdtemp(prefix="tapper-harness-go-"))
    program = folder / "sample"
    go = _which("go")
    assert go is not None, "`missing` was asked before"
    done = subprocess.run(
        [go, "build", "-trimpath", "-ldflags=-s -w", "-o", str(program), str(_SAMPLES / "sample.go")],
        capture_output=True,
        text=True,
        check=False,
        timeout=_BUILD_S,
    )
    if done.returncode != 0:
        raise HarnessError(f"the sample of Go cannot be compiled:\n{done.stderr}")
    return str(program)


SERVERS = {
    "python": TlsApplication("openssl", sys.executable, "python3", _sample(sys.executable, "python_server.py")),
    "asyncio": TlsApplication("openssl", sys.executable, "python3", _sample(sys.executable, "asyncio_server.py")),
    "nginx": TlsApplication("openssl", "nginx", "nginx-light", _nginx),
    "node": TlsApplication("openssl", "node", "nodejs", _sample("node", "server.mjs")),
    "go": TlsApplication("go", "go", "golang-go", lambda _, pem, port: [go_program(), "serve", pem, str(port)]),
}
CLIENTS = {
    "python": TlsApplication(
        "openssl", sys.executable, "python3", lambda urls: [sys.executable, str(_SAMPLES / "python_client.py"), *urls]
    ),
    "curl": TlsApplication("openssl", "curl", "curl", lambda urls: [*_CURL, "--http1.1", *_outputs(urls)]),
    "curl-http2": TlsApplication("openssl", "curl", "curl", lambda urls: [*_CURL, "--http2", *_outputs(urls)]),
    "wget": TlsApplication(
        "gnutls", "wget", "wget", lambda urls: ["wget", "-q", "-O", "/dev/null", "--no-check-certificate", *urls]
    ),
    "node": TlsApplication("openssl", "node", "nodejs", lambda urls: ["node", str(_SAMPLES / "client.mjs"), *urls]),
    "go": TlsApplication("go", "go", "golang-go", lambda urls: [go_program(), "ask", *urls]),
}


def missing(application: TlsApplication) -> str | None:
    """Why an application cannot be run here, in one sentence; None if it can."""
    if _which(application.program) is None:
        return f"{application.program} is not installed: apt-get install {application.package}"
    return None


def serve(pod: Pod, name: str, port: int = PORT) -> Process:
    """Start a server of SERVERS in a pod, and wait until it listens. Raises `Unsupported` if it is not installed."""
    application = _installed(SERVERS[name])
    argv = application.argv(pod, certificate_file(pod.node), port)
    process = pod.spawn(Command(argv, env=MINIMAL_ENVIRON), name=f"{name}-{pod.name}")
    pod.wait_listening(process, port)
    return process


def ask(pod: Pod, name: str, host: str, port: int = PORT, count: int = 1) -> list[AnsweredRequest]:
    """Run a client of CLIENTS in a pod, which sends so many GET requests, and wait for its end.

    Raises `Unsupported` if it is not installed, HarnessError if a request was not answered with 200.
    """
    application = _installed(CLIENTS[name])
    nonces = [new_nonce() for _ in range(count)]
    targets = [f"/orders/{nonce}" for nonce in nonces]
    where = f"[{host}]" if ":" in host else host
    argv = application.argv([f"https://{where}:{port}{target}" for target in targets])
    process = pod.spawn(Command(argv, env=MINIMAL_ENVIRON), name=f"{name}-in-{pod.name}")
    code, log = process.finish(_ENDS_S)
    if code != 0:
        raise HarnessError(f"{process.name} ended with {code}:\n{log}")
    return [AnsweredRequest(nonce, "GET", target, 200, pod.name) for nonce, target in zip(nonces, targets, strict=True)]


def _installed(application: TlsApplication) -> TlsApplication:
    if (why_not := missing(application)) is not None:
        raise Unsupported(why_not)
    return application


def _outputs(urls: list[str]) -> list[str]:
    """curl's URLs; each needs a place for its response."""
    return [part for url in urls for part in ("--output", "/dev/null", url)]
