"""TLS connections between processes in pods, with both ends under control: every byte, cut and pause is the test's.

The processes run `harness.mesh.own_tls.program`, which encrypts with the OpenSSL of this Python.
"""

from __future__ import annotations

import base64
import itertools
import shutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

from harness.errors import Unsupported
from harness.mesh.own_tls import program
from harness.mesh.own_tls.orders import OrderedProcess
from harness.sandbox.bare_node import BareNode
from harness.sandbox.pod import Pod
from harness.sandbox.process import MINIMAL_ENVIRON, Command

PORT = 8443
NAME = "shop.default.svc"
_PROGRAM = program.__file__
_WITHIN = f"{sys.executable} has OpenSSL within itself: run the kit with a Python that uses the system's libssl"
_numbers = itertools.count(1)

Address = tuple[str, int]


class TlsProgram(OrderedProcess):
    """A process in a pod. It has loaded its TLS library, unless `late`: then `load` does it.

    With `own_library` it loads a copy of the library's file that no other process loads. A breakpoint that somebody
    sets in the machine's file is not in the copy, and a tapper cannot know the copy before.

    Raises `Unsupported` if this Python has OpenSSL within itself, where no tapper can be expected to find it.
    """

    def __init__(self, pod: Pod, *, late: bool = False, own_library: bool = False) -> None:
        environ = MINIMAL_ENVIRON | ({"LD_LIBRARY_PATH": _copied_library(pod)} if own_library else {})
        command = Command([sys.executable, "-I", "-S", _PROGRAM, certificate_file(pod.node)], env=environ)
        super().__init__(pod, command, f"own-tls-{pod.name}-{next(_numbers)}")
        self._listens: set[int] = set()
        if not late:
            self.load()

    def load(self) -> None:
        """Load the TLS library."""
        if self.ask("load")["library"] is None:
            raise Unsupported(_WITHIN)

    def listen(self, port: int = PORT) -> None:
        """Listen there for IPv6 and IPv4, if it does not yet."""
        if port not in self._listens:
            self.ask("listen", port=port)
            self._listens.add(port)

    def post(self, do: str, **order: Any) -> None:
        """Give an order; `answer` waits for it."""
        self.give({"do": do, **order})

    def ask(self, do: str, **order: Any) -> dict[str, Any]:
        self.post(do, **order)
        return self.answer()


@dataclass(frozen=True, slots=True)
class TlsEnd:
    """One end of a connection."""

    program: TlsProgram
    number: int
    object: int
    """The address of OpenSSL's object for the connection."""

    def write(self, data: bytes, filler: int = 0) -> int:
        """Write these bytes and so many letters `x`; returns how many calls of the library it took."""
        self.post_write(data, filler)
        calls: int = self.program.answer()["calls"]
        return calls

    def post_write(self, data: bytes, filler: int = 0) -> None:
        self.program.post("write", id=self.number, data=_text(data), filler=filler)

    def post_read(self, size: int) -> None:
        self.program.post("read", id=self.number, size=size)

    def close(self) -> None:
        """Close it without a word to the other end."""
        self.program.ask("close", id=self.number)


@dataclass(frozen=True, slots=True)
class TlsConnection:
    """A connection between two programs. Use it as a context manager, or call `close`."""

    client: TlsEnd
    server: TlsEnd
    src: Address
    """The client's address and port, as the packets have them."""
    dst: Address

    def exchange(self, request: bytes, response: bytes, *, filler: int = 0) -> None:
        """The client sends its request, then the server its response with so many letters `x` at its end."""
        self.client_sends(request)
        self.server_sends(response, filler)

    def client_sends(self, data: bytes) -> int:
        """Send bytes, and wait until the other end has read them; returns how many calls of the library it took."""
        return _carry(self.client, self.server, data)

    def server_sends(self, data: bytes, filler: int = 0) -> int:
        return _carry(self.server, self.client, data, filler)

    def client_retries(self, data: bytes) -> int:
        """Write until the socket takes no more, and only then have the other end read. Returns how often a write of the
        library was refused; each of those was made again with the same bytes."""
        ours, theirs = self.client, self.server
        ours.program.ask("try_write", id=ours.number, data=_text(data))
        theirs.post_read(len(data))
        refused: int = ours.program.ask("finish", id=ours.number)["refused"]
        theirs.program.answer()
        return refused

    def close(self) -> None:
        self.client.close()
        self.server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(
    client: TlsProgram, server: TlsProgram, *, ipv6: bool = False, port: int = PORT, **how: bool
) -> TlsConnection:
    """Open a connection. The server listens for IPv6 and IPv4: an IPv4 connection has mapped addresses there.

    `how`: `memory_bio` keeps the library away from the sockets; `small_buffers` makes sockets that take little at once.
    """
    host = str(server.pod.ipv6 if ipv6 else server.pod.ipv4)
    server.listen(port)
    server.post("accept", port=port, **how)
    ours = client.ask("connect", host=host, port=port, **how)
    theirs = server.answer()
    return TlsConnection(
        TlsEnd(client, ours["id"], ours["object"]),
        TlsEnd(server, theirs["id"], theirs["object"]),
        (ours["local"][0], ours["local"][1]),
        (ours["peer"][0], ours["peer"][1]),
    )


def _copied_library(pod: Pod) -> str:
    """The folder of a copy of the library that this Python uses, as the node names it."""
    folder = pod.node.run_dir / f"own-library-{next(_numbers)}"
    folder.mkdir()
    file = _library()
    shutil.copy(file, folder / file.name)
    return pod.node.inside(folder)


@cache
def _library() -> Path:
    """The file of OpenSSL that this Python loads. Raises `Unsupported` if it has OpenSSL within itself."""
    import ssl  # noqa: F401, PLC0415 - so that it is mapped

    file = program.library()
    if file is None:
        raise Unsupported(_WITHIN)
    return Path(file)


def certificate_file(node: BareNode) -> str:
    """The path of a certificate for NAME and its key, PEM, as processes in the node name it."""
    file = node.run_dir / "own-tls.pem"
    if not file.exists():
        file.write_bytes(_certificate_and_key())
    return node.inside(file)


@cache
def _certificate_and_key() -> bytes:
    from harness.mesh.certificates import CertificateAuthority, spiffe_id  # noqa: PLC0415 - a twentieth of a second

    identity = CertificateAuthority().issue(spiffe_id("default", "shop"))
    return identity.certificate + identity.key


def _carry(sender: TlsEnd, receiver: TlsEnd, data: bytes, filler: int = 0) -> int:
    receiver.post_read(len(data) + filler)
    calls = sender.write(data, filler)
    receiver.program.answer()
    return calls


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
