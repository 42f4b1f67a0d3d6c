"""A process whose TLS library has no symbols, so that its functions cannot be found by their names."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

from harness.mesh.own_tls.ends import PORT, TlsProgram
from harness.mesh.own_tls.orders import OrderedProcess
from harness.sandbox.pod import Pod
from harness.sandbox.process import Command

_SECTION_HEADERS = (slice(0x28, 0x30), slice(0x3C, 0x40))
"""e_shoff; e_shnum and e_shstrndx of a 64-bit ELF header."""
_PROGRAM = Path(__file__).with_name("unreadable_program.py")


class UnreadableProgram(OrderedProcess):
    """`harness.mesh.own_tls.unreadable_program` in a pod. It is a client."""

    def __init__(self, pod: Pod) -> None:
        command = Command([sys.executable, "-I", str(_PROGRAM), _without_symbols(pod)])
        super().__init__(pod, command, f"unreadable-{pod.name}")

    def exchange(self, server: TlsProgram, request: bytes, response: bytes, port: int = PORT) -> tuple[str, int]:
        """Send a request to a program that can be read, which answers; returns the client's address and port."""
        host = str(server.pod.ipv4)
        server.listen(port)
        server.post("accept", port=port)
        self.give({"host": host, "port": port, "request": base64.b64encode(request).decode()})
        number = server.answer()["id"]
        server.ask("read", id=number, size=len(request))
        server.ask("write", id=number, data=base64.b64encode(response).decode())
        local = self.answer()["local"]
        server.ask("close", id=number)
        address, source_port = local
        return address, source_port


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
