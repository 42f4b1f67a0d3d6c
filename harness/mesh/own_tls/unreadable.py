"""A process whose TLS library has no symbols, so that nobody finds its functions by their names."""

from __future__ import annotations

import base64
import json
import socket
import sys
from pathlib import Path
from typing import Self

from harness.errors import HarnessError
from harness.mesh.own_tls.ends import PORT, TlsProgram
from harness.sandbox.pod import Pod
from harness.sandbox.process import Command
from harness.waiting import DEFAULT_TIMEOUT

_SECTION_HEADERS = (slice(0x28, 0x30), slice(0x3C, 0x40))
"""e_shoff; e_shnum and e_shstrndx of a 64-bit ELF header."""
_PROGRAM = Path(__file__).with_name("unreadable_program.py")


class UnreadableProgram:
    """`harness.mesh.own_tls.unreadable_program` in a pod. It is a client."""

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = pod.node.spawn(
                Command([sys.executable, "-I", str(_PROGRAM), _without_symbols(pod)]),
                pod=pod,
                name=f"unreadable-{pod.name}",
                fds=[theirs.fileno()],
            )
        ours.settimeout(DEFAULT_TIMEOUT)
        self._orders = ours
        self._answers = ours.makefile("rb")

    def exchange(self, server: TlsProgram, request: bytes, response: bytes, port: int = PORT) -> tuple[str, int]:
        """Send a request to a program that can be read, which answers; returns the client's address and port."""
        host = str(server.pod.ipv4)
        server.listen(port)
        server.post("accept", port=port)
        order = {"host": host, "port": port, "request": base64.b64encode(request).decode()}
        self._orders.sendall(json.dumps(order).encode() + b"\n")
        number = server.answer()["id"]
        server.ask("read", id=number, size=len(request))
        server.ask("write", id=number, data=base64.b64encode(response).decode())
        line = self._answers.readline()
        if not line:
            raise HarnessError(f"{self.process.name} ended:\n{self.process.read_log()}")
        server.ask("close", id=number)
        address, source_port = json.loads(line)["local"]
        return address, source_port

    def close(self) -> None:
        """End the process, which ends with its orders."""
        self._answers.close()
        self._orders.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _without_symbols(pod: Pod) -> str:
    """A copy of cryptography's extension module without section headers, and so without a table of symbols (elf(5)), as
    the node names it. Its name stays."""
    from cryptography.hazmat.bindings import _rust  # noqa: PLC0415 - a twentieth of a second

    folder = pod.node.run_dir / f"unreadable-{pod.name}"
    folder.mkdir()
    original = Path(str(_rust.__file__))
    content = bytearray(original.read_bytes())
    for member in _SECTION_HEADERS:
        content[member] = bytes(member.stop - member.start)
    (folder / original.name).write_bytes(content)
    return pod.node.inside(folder / original.name)
