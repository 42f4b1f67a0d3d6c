"""Nonces and bodies, which follow from a plan by rule. Pure."""

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
    """`nonce-` and the first 32 hexadecimal digits of a SHA-256, in the form of the kit's other nonces."""
    return "nonce-" + hashlib.sha256(f"{plan}/{talk}/{exchange}".encode()).hexdigest()[:32]


@lru_cache(maxsize=32)
def body(content: Content, seed: str) -> bytes:
    """The bytes of a body as they are sent, with its content coding. Cached: one body is asked for several times."""
    plain = _plain(content, seed)
    if content.coding == "gzip":
        return gzip.compress(plain, 1, mtime=0)
    if content.coding == "deflate":
        return zlib.compress(plain, 1)
    return plain


def pieces(data: bytes, size: int) -> list[bytes]:
    """Cut data into pieces of at most `size` bytes. No data gives one empty piece."""
    return [data[at : at + size] for at in range(0, len(data), size)] or [b""]


def coding_fields(content: Content) -> FieldPairs:
    return (("Content-Encoding", content.coding),) if content.coding else ()


def _plain(content: Content, seed: str) -> bytes:
    if content.kind == "lookalike":
        return (_LOOKALIKE * (content.size // len(_LOOKALIKE) + 1))[: content.size]
    random = hashlib.shake_256(seed.encode()).digest(content.size)
    return random if content.kind == "noise" else base64.b64encode(random)[: content.size]
