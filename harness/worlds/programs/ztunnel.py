"""The process that `harness.mesh.ztunnel` starts: `python -m harness.worlds.programs.ztunnel FOLDER`.

FOLDER has cert.pem, key.pem, root.pem, and pods.json: the pods' addresses and a process in each one's namespace.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from harness.mesh.ztunnel import HBONE, MARK, OUTBOUND

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h
_CHUNK = 1 << 16
_libc = ctypes.CDLL(None, use_errno=True)


class Place:
    """A pod's network namespace, in which sockets are made from outside."""

    def __init__(self, ip: str, pid: int) -> None:
        self.ip = ip
        self._namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def make(self, function: Callable[[], T]) -> T:
        """Call it in the namespace, on a thread of its own, which ends there."""
        made: list[T] = []
        failed: list[BaseException] = []

        def enter() -> None:
            try:
                if _libc.setns(self._namespace, _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
                made.append(function())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return made[0]

    def listen(self, port: int) -> socket.socket:
        return self.make(lambda: socket.create_server(("0.0.0.0", port)))

    def connect(self, address: tuple[str, int], source: str | None = None) -> socket.socket:
        """A connection that no rule redirects; from `source`, whoever's address that is."""

        def unbound() -> socket.socket:
            made = socket.socket()
            made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
            if source is not None:
                made.setsockopt(socket.SOL_IP, socket.IP_TRANSPARENT, 1)
                made.bind((source, 0))
            return made

        made = self.make(unbound)
        made.connect(address)
        return made


class Ztunnel:
    """Both ends of every tunnel."""

    def __init__(self, folder: Path) -> None:
        self._client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._client.check_hostname = False  # who it is stands in a SPIFFE URI
        self._server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.verify_mode = ssl.CERT_REQUIRED
        for context in (self._client, self._server):
            context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
            context.load_verify_locations(folder / "root.pem")

    def outbound(self, place: Place, accepted: socket.socket) -> None:
        raw = accepted.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16)
        port, address = struct.unpack("!2xH4s8x", raw)
        target = socket.inet_ntoa(address)
        tunnel = self._client.wrap_socket(place.connect((target, HBONE)))
        tunnel.sendall(f"CONNECT {target}:{port} HTTP/1.1\r\n\r\n".encode())
        relay(accepted, tunnel)

    def inbound(self, place: Place, accepted: socket.socket) -> None:
        caller, _ = accepted.getpeername()
        tunnel = self._server.wrap_socket(accepted, server_side=True)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += tunnel.recv(1)
        port = int(head.split()[1].rpartition(b":")[2])
        relay(tunnel, place.connect((place.ip, port), source=caller))


def relay(one: socket.socket, other: socket.socket) -> None:
    """Until both directions have ended."""

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(_CHUNK):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the other end has gone; so does this

    back = threading.Thread(target=pump, args=(other, one), daemon=True)
    back.start()
    pump(one, other)
    back.join()
    one.close()
    other.close()


def serve(listener: socket.socket, place: Place, handle: Callable[[Place, socket.socket], None]) -> None:
    while True:
        accepted, _ = listener.accept()
        threading.Thread(target=handle, args=(place, accepted), daemon=True).start()


def main() -> int:
    folder = Path(sys.argv[1])
    ztunnel = Ztunnel(folder)
    threads = []
    for ip, pid in json.loads((folder / "pods.json").read_text()).items():
        place = Place(ip, pid)
        for port, handle in ((OUTBOUND, ztunnel.outbound), (HBONE, ztunnel.inbound)):
            threads.append(threading.Thread(target=serve, args=(place.listen(port), place, handle)))
    for thread in threads:
        thread.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    return 0  # the threads go on


if __name__ == "__main__":
    sys.exit(main())
