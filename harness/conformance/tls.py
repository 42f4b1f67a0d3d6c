"""TLS between two ends in memory: the bytes that each sends, for a case to put on a wire."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from harness.mesh.certificates import CertificateAuthority, spiffe_id

_NAME = "shop.default.svc"
_CHUNK = 1 << 16


def flights(
    exchanges: Sequence[tuple[bytes, bytes]], *, alpn: Sequence[str] = ("http/1.1",)
) -> list[tuple[bytes, bytes]]:
    """(client's bytes, server's bytes) of a whole TLS 1.3 connection, its handshake included, that carries `exchanges`.

    A pair is in the order in which it is sent: first the client's, then what the server says to it.
    """
    server_context = _server_context()
    server_context.set_alpn_protocols(list(alpn))
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_mode = ssl.CERT_NONE  # the kit talks to itself, in memory
    client_context.set_alpn_protocols(list(alpn))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=_NAME)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    said: list[tuple[bytes, bytes]] = []

    def turn(client_does: Callable[[], object], server_does: Callable[[], object]) -> None:
        """Exchanges the bytes of both sides, and keeps a copy."""
        _try(client_does)
        request = to_server.read()
        to_server.write(request)
        _try(server_does)
        answer = to_client.read()
        to_client.write(answer)
        said.append((request, answer))

    turn(client.do_handshake, server.do_handshake)
    turn(client.do_handshake, server.do_handshake)
    for request, response in exchanges:
        turn(lambda request=request: client.write(request), lambda response=response: server.write(response))  # type: ignore[misc]
        _try(lambda: server.read(_CHUNK))
        _try(lambda: client.read(_CHUNK))
    return said


def _try(step: Callable[[], object]) -> None:
    """Do a step. If it needs the other side's next bytes, it has still written some."""
    try:
        step()
    except ssl.SSLWantReadError:
        pass


@cache
def _files() -> tuple[bytes, bytes]:
    identity = CertificateAuthority().issue(spiffe_id("default", "shop"))
    return identity.certificate, identity.key


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate, key = _files()
    with tempfile.TemporaryDirectory() as directory:
        chain, secret = Path(directory, "chain.pem"), Path(directory, "key.pem")
        chain.write_bytes(certificate)
        secret.write_bytes(key)
        context.load_cert_chain(chain, secret)
    return context
