"""The sockets at which a node takes log messages, held by the kit: what is logged there has been told to everybody."""

from __future__ import annotations

import socket
from typing import Self

from harness.sandbox.node import Node

_LARGEST = 1 << 18
# systemd-journald(8): where syslog(3) writes (on many machines /dev/log leads there), and its native protocol
_PATHS = ("systemd/journal/dev-log", "systemd/journal/socket")


class LogSocket:
    """From construction to `close`. Messages lie in the kernel until they are read."""

    def __init__(self, node: Node) -> None:
        self._sockets: list[socket.socket] = []
        try:
            for name in _PATHS:
                path = node.root / "run" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._sockets.append(sock)
                sock.bind(str(path))
                sock.setblocking(False)
        except BaseException:
            self.close()
            raise

    def received(self) -> list[bytes]:
        """What has come since the last call. What a file descriptor in it leads to is not looked at."""
        found = []
        for sock in self._sockets:
            while True:
                try:
                    found.append(sock.recv(_LARGEST))
                except BlockingIOError:
                    break
        return found

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
