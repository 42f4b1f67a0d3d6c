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

_PROGRAM = Path(__file__).with_name("unreadable_program.py")


class UnreadableProgram:
    """`harness.mesh.own_tls.unreadable_program` in a pod. It is a client."""

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = pod.node.spawn(
                Command([sys.executable, "-I", str(_PROGRAM)]),
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
