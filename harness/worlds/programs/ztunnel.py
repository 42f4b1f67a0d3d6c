"""The process that `harness.mesh.ztunnel` starts: `python -m harness.worlds.programs.ztunnel FOLDER`.

FOLDER has cert.pem, key.pem, root.pem, and pods.json: the pods' addresses and a process in each one's namespace.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import struct
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias, TypeVar

from harness.mesh.ztunnel import HBONE, MARK, OUTBOUND
from harness.sandbox.syscalls import CLONE_NEWNET, setns

T = TypeVar("T")
Streams: TypeAlias = tuple[StreamReader, StreamWriter]
_SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h
_CHUNK = 1 << 16
_END_OF_HEAD = b"\r\n\r\n"


class PodNetwork:
    """A pod's network namespace, in which sockets are made from outside."""

    def __init__(self, ip: str, pid: int) -> None:
        self.ip = ip
        self._namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def make(self, function: Callable[[], T]) -> T:
        """Call a function in the namespace, on a thread that ends there."""

        def enter() -> T:
            setns(self._namespace, CLONE_NEWNET)
            return function()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(enter).result()

    def listen(self, port: int) -> socket.socket:
        return self.make(lambda: socket.create_server(("0.0.0.0", port)))

    async def connect(self, address: tuple[str, int], source: str | None = None) -> socket.socket:
        """A connection that no rule redirects, from the address `source`, which may be another host's."""

        def unbound() -> socket.socket:
            sock = socket.socket()
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
            if source is not None:
                sock.setsockopt(socket.SOL_IP, socket.IP_TRANSPARENT, 1)
                sock.bind((source, 0))
            return sock

        sock = self.make(unbound)
        await asyncio.get_running_loop().sock_connect(sock, address)
        return sock


class Ztunnel:
    """Both ends of every tunnel, on one thread: OpenSSL's connections are not for two at a time."""

    def __init__(self, folder: Path) -> None:
        self._client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._client.check_hostname = False  # the peer's identity is a SPIFFE URI
        self._server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.verify_mode = ssl.CERT_REQUIRED
        for context in (self._client, self._server):
            context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
            context.load_verify_locations(folder / "root.pem")

    async def serve(self, place: PodNetwork) -> None:
        """Take the pod into the mesh. Returns once both its ports are open."""
        await asyncio.start_server(closing(place, self._outbound), sock=place.listen(OUTBOUND))
        await asyncio.start_server(closing(place, self._inbound), sock=place.listen(HBONE), ssl=self._server)

    async def _outbound(self, place: PodNetwork, reader: StreamReader, writer: StreamWriter) -> None:
        raw = writer.get_extra_info("socket").getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16)
        port, address = struct.unpack("!2xH4s8x", raw)
        target = socket.inet_ntoa(address)
        connected = await place.connect((target, HBONE))
        tunnel = await asyncio.open_connection(sock=connected, ssl=self._client, server_hostname="")
        tunnel[1].write(f"CONNECT {target}:{port} HTTP/1.1".encode() + _END_OF_HEAD)
        await relay((reader, writer), tunnel)

    async def _inbound(self, place: PodNetwork, reader: StreamReader, writer: StreamWriter) -> None:
        caller, _ = writer.get_extra_info("peername")
        head = await reader.readuntil(_END_OF_HEAD)
        port = int(head.split()[1].rpartition(b":")[2])
        connected = await place.connect((place.ip, port), source=caller)
        await relay((reader, writer), await asyncio.open_connection(sock=connected))


def closing(
    place: PodNetwork, handle: Callable[[PodNetwork, StreamReader, StreamWriter], Awaitable[None]]
) -> Callable[[StreamReader, StreamWriter], Awaitable[None]]:
    """A handler of connections that closes each connection in the end, also if the other end cannot be reached."""

    async def handled(reader: StreamReader, writer: StreamWriter) -> None:
        try:
            await handle(place, reader, writer)
        finally:
            writer.close()

    return handled


async def relay(one: Streams, other: Streams) -> None:
    """Copy bytes until one end has sent everything: TLS has no half-closed connections (as asyncio implements it)."""

    async def pump(source: StreamReader, sink: StreamWriter) -> None:
        try:
            while data := await source.read(_CHUNK):
                sink.write(data)
                await sink.drain()
        except OSError:
            return  # that end is gone: close the other, too

    pumps = [asyncio.create_task(pump(one[0], other[1])), asyncio.create_task(pump(other[0], one[1]))]
    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    for pumping in pumps:
        pumping.cancel()
    for _, writer in (one, other):
        writer.close()


async def serve(folder: Path) -> None:
    ztunnel = Ztunnel(folder)
    for ip, pid in json.loads((folder / "pods.json").read_text()).items():
        await ztunnel.serve(PodNetwork(ip, pid))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()  # it ends with the node


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
