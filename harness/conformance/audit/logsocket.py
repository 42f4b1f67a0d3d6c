"""The sockets for log messages of a node, held by the kit: everybody can read a logged message."""

from __future__ import annotations

import os
import select
import socket
import threading
from typing import Self

from harness.sandbox.node import Node

_LARGEST = 1 << 18
_MOST = 16 << 20
# systemd-journald(8): the socket of syslog(3), to which /dev/log often leads, and that of the native protocol
_PATHS = ("systemd/journal/dev-log", "systemd/journal/socket")


class LogSocket:
    """Listens from construction to `close`. A thread reads the messages as they come: the kernel keeps only a few
    (unix(7))."""

    def __init__(self, node: Node) -> None:
        self._sockets: list[socket.socket] = []
        self._messages: list[bytes] = []
        self._size = 0
        self._stop_read, self._stop_write = os.pipe()
        try:
            for name in _PATHS:
                path = node.root / "run" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._sockets.append(sock)
                sock.bind(str(path))
                sock.setblocking(False)
            self._thread = threading.Thread(target=self._listen, name="log-socket", daemon=True)
            self._thread.start()
        except BaseException:
            self._release()
            raise

    def received(self) -> list[bytes]:
        """End the listening; returns the messages."""
        self.close()
        return self._messages

    def close(self) -> None:
        if self._sockets:
            os.write(self._stop_write, b".")
            self._thread.join()
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listen(self) -> None:
        poller = select.poll()
        for fd in (*(sock.fileno() for sock in self._sockets), self._stop_read):
            poller.register(fd, select.POLLIN)
        stopping = False
        while not stopping:
            stopping = any(fd == self._stop_read for fd, _ in poller.poll())
            for sock in self._sockets:
                self._take(sock)

    def _take(self, sock: socket.socket) -> None:
        """Read the messages of one socket. Beyond `_MOST` bytes in all they are dropped."""
        while True:
            try:
                message = sock.recv(_LARGEST)
            except BlockingIOError:
                return
            if self._size < _MOST:
                self._messages.append(message)
                self._size += len(message)

    def _release(self) -> None:
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()
        os.close(self._stop_read)
        os.close(self._stop_write)
