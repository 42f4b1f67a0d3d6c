"""A program with TLS connections that follows orders: one write of so many bytes, a write that is tried again.

Runs inside a pod (`python -I -S program.py`), with the standard library only. `harness.mesh.own_tls.ends` gives the
orders: descriptor 3 is a Unix socket, an order is a line of JSON, and so is its answer. An answer with `error` says why
an order could not be carried out.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import socket
from functools import partial
from typing import Any

TYPE_CHECKING = False  # typing's own would cost its import
if TYPE_CHECKING:
    import ssl

ORDERS_FD = 3
_TIMEOUT_S = 20.0
_AT_ONCE = 1 << 18
_SMALL_BUFFER = 4096

Order = dict[str, Any]


class SocketConnection:
    """One end of a TLS connection over a socket, as most programs have it."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server: bool) -> None:
        self.ends = {"local": sock.getsockname()[:2], "peer": sock.getpeername()[:2]}
        self._tls = context.wrap_socket(sock, server_side=server)
        self._left = b""

    def object(self) -> int:
        """The address of OpenSSL's object for the connection."""
        return _object(self._tls._sslobj)  # type: ignore[attr-defined]

    def write(self, data: bytes) -> int:
        """Write all; returns how many calls it took."""
        view, calls = memoryview(data), 0
        while view:
            view = view[self._tls.send(view) :]
            calls += 1
        return calls

    def read(self, size: int) -> None:
        while size:
            taken = len(self._tls.recv(min(size, _AT_ONCE)))
            if not taken:
                raise EOFError(f"the other end closed with {size} bytes to come")
            size -= taken

    def try_write(self, data: bytes) -> int:
        """Write until the socket takes no more, and keep the rest; returns how many bytes were taken."""
        self._tls.setblocking(False)
        self._left = data
        return len(data) - len(self._go_on())

    def finish(self) -> int:
        """Write the rest, the refused piece first; returns how often the socket refused."""
        refused = 1
        while self._go_on():
            select.select([], [self._tls], [], _TIMEOUT_S)
            refused += 1
        self._tls.settimeout(_TIMEOUT_S)
        return refused

    def _go_on(self) -> bytes:
        import ssl  # noqa: PLC0415 - loaded by an order

        try:
            while self._left:
                self._left = self._left[self._tls.send(self._left) :]
        except ssl.SSLWantWriteError:
            pass
        return self._left

    def close(self) -> None:
        """Without close_notify, as a program that ends does it."""
        self._tls.close()


class MemoryConnection:
    """One end of a TLS connection that never sees the socket: OpenSSL works on two memory BIOs, as in asyncio."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server: bool) -> None:
        import ssl  # noqa: PLC0415 - loaded by an order

        self.ends = {"local": sock.getsockname()[:2], "peer": sock.getpeername()[:2]}
        self._sock = sock
        self._wants = ssl.SSLWantReadError
        self._from, self._into = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._from, self._into, server_side=server)
        self._call(self._tls.do_handshake)

    def object(self) -> int:
        """As above."""
        return _object(self._tls._sslobj)  # type: ignore[attr-defined]

    def write(self, data: bytes) -> int:
        view, calls = memoryview(data), 0
        while view:
            view = view[self._tls.write(view) :]
            self._flush()
            calls += 1
        return calls

    def read(self, size: int) -> None:
        while size:
            size -= len(self._call(partial(self._tls.read, min(size, _AT_ONCE))))

    def close(self) -> None:
        self._sock.close()

    def _call(self, step: Any) -> Any:
        while True:
            try:
                result = step()
            except self._wants:
                self._flush()
                data = self._sock.recv(_AT_ONCE)
                if not data:
                    raise EOFError("the other end closed") from None
                self._from.write(data)
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        self._sock.sendall(self._into.read())


class OrderedProgram:
    """The state: listening sockets by their port, connections by their number."""

    def __init__(self, certificate: str) -> None:
        self._certificate = certificate
        self._listening: dict[int, socket.socket] = {}
        self._connections: dict[int, Any] = {}
        self._numbers = itertools.count()

    def load(self, _: Order) -> Order:
        """Load the library."""
        import ssl  # noqa: F401, PLC0415 - a process that loads it late

        return {"library": library()}

    def listen(self, order: Order) -> Order:
        sock = socket.create_server(("::", order["port"]), family=socket.AF_INET6, dualstack_ipv6=True)
        sock.settimeout(_TIMEOUT_S)
        self._listening[order["port"]] = sock
        return {}

    def accept(self, order: Order) -> Order:
        sock, _ = self._listening[order["port"]].accept()
        return self._begin(sock, order, server=True)

    def connect(self, order: Order) -> Order:
        sock = socket.create_connection((order["host"], order["port"]), _TIMEOUT_S)
        return self._begin(sock, order, server=False)

    def write(self, order: Order) -> Order:
        data = base64.b64decode(order["data"]) + b"x" * order.get("filler", 0)
        return {"calls": self._connections[order["id"]].write(data)}

    def try_write(self, order: Order) -> Order:
        return {"taken": self._connections[order["id"]].try_write(base64.b64decode(order["data"]))}

    def finish(self, order: Order) -> Order:
        return {"refused": self._connections[order["id"]].finish()}

    def read(self, order: Order) -> Order:
        self._connections[order["id"]].read(order["size"])
        return {}

    def close(self, order: Order) -> Order:
        self._connections.pop(order["id"]).close()
        return {}

    def _begin(self, sock: socket.socket, order: Order, *, server: bool) -> Order:
        sock.settimeout(_TIMEOUT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if order.get("small_buffers"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SMALL_BUFFER)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
        context = self._context(server=server)
        kind = MemoryConnection if order.get("memory_bio") else SocketConnection
        connection = kind(sock, context, server)
        number = next(self._numbers)
        self._connections[number] = connection
        return {"id": number, "object": connection.object(), **connection.ends}

    def _context(self, *, server: bool) -> ssl.SSLContext:
        import ssl  # noqa: PLC0415 - loaded by an order

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        if server:
            context.load_cert_chain(self._certificate)
        else:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE  # the kit talks to itself
        return context


def library() -> str | None:
    """The file of OpenSSL that this process has mapped; None if it has OpenSSL within another file."""
    with open("/proc/self/maps") as maps:  # noqa: PTH123 - pathlib would cost its import
        for line in maps:
            name = line.rpartition("/")[2].strip()
            if name.startswith("libssl"):
                return line[line.index("/") :].strip()
    return None


def _object(tls: Any) -> int:
    """The address of OpenSSL's object: struct PySSLSocket (CPython's _ssl.c) has it after a head of two words and a
    reference to the socket."""
    import ctypes  # noqa: PLC0415 - a hundredth of a second, and only here

    word = ctypes.sizeof(ctypes.c_size_t)
    return ctypes.c_size_t.from_address(id(tls) + 3 * word).value


def main(certificate: str) -> None:
    program = OrderedProgram(certificate)
    with socket.socket(fileno=ORDERS_FD) as orders, orders.makefile("rwb") as lines:
        os.set_inheritable(ORDERS_FD, False)
        for line in lines:
            order = json.loads(line)
            try:
                answer = getattr(program, order.pop("do"))(order)
            except (OSError, EOFError, ValueError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            lines.write(json.dumps(answer).encode() + b"\n")
            lines.flush()


if __name__ == "__main__":
    import sys

    main(sys.argv[1])
