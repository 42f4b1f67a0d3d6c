"""What follows from a plan by rule: nonces, bodies and what stands in them. Pure."""

from __future__ import annotations

import base64
import gzip
import hashlib
import zlib
from functools import lru_cache

from harness.conformance.generated.checks import FieldPairs
from harness.conformance.generated.plan import Content

_LOOKALIKE = (
    b"GET /lookalike HTTP/1.1\r\nHost: a\r\n\r\n"
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    b"0\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)


def nonce(plan: str, talk: int, exchange: int) -> str:
    """`nonce-` and 32 hexadecimal digits, as the kit's other markers: the beginning of a SHA-256."""
    return "nonce-" + hashlib.sha256(f"{plan}/{talk}/{exchange}".encode()).hexdigest()[:32]


@lru_cache(maxsize=32)
def body(content: Content, seed: str) -> bytes:
    """Its bytes as they are sent, coded where the content says so. Asked for several times in a row."""
    plain = _plain(content, seed)
    if content.coding == "gzip":
        return gzip.compress(plain, 1, mtime=0)
    if content.coding == "deflate":
        return zlib.compress(plain, 1)
    return plain


def pieces(data: bytes, size: int) -> list[bytes]:
    """Cut into pieces of at most so many bytes; one empty piece of no bytes."""
    return [data[at : at + size] for at in range(0, len(data), size)] or [b""]


def coding_fields(content: Content) -> FieldPairs:
    return (("Content-Encoding", content.coding),) if content.coding else ()


def _plain(content: Content, seed: str) -> bytes:
    if content.kind == "lookalike":
        return (_LOOKALIKE * (content.size // len(_LOOKALIKE) + 1))[: content.size]
    random = hashlib.shake_256(seed.encode()).digest(content.size)
    return random if content.kind == "noise" else base64.b64encode(random)[: content.size]
