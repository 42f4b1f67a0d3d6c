"""An HTTPS server on asyncio, whose TLS works on memory: `asyncio_server.py PEM PORT`. It answers each GET with 200."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nasyncio\n")
            await writer.drain()
    writer.close()


async def serve(certificate: str, port: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listening = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    server = await asyncio.start_server(answer, sock=listening, ssl=context)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
