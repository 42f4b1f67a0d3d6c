"""Undoes the content codings of a body (RFC 9110 section 8.4): gzip, deflate, br and zstd, also one upon the other. So
it does with transfer codings (RFC 9112 section 7) besides chunked, which the reader has undone.

Whoever sends a body chooses how far it unfolds. So at most a given number of bytes is made, by each coding.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from tapper.protocols.headers import content_encoding
from tapper.protocols.messages import Request, Response
from tapper.runtime import zstd

DECODED_LIMIT: Final = 1 << 20
"""Bytes that are made of a body."""
_MOST_CODINGS: Final = 4
_PIECE: Final = 4096  # bytes that are decoded at a time, so that what comes before damage is kept
_ZSTD_WINDOW_LOG: Final = 23  # RFC 9659: 8 MiB
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


class MessageContent(NamedTuple):
    """A body as its receiver reads it."""

    data: bytes
    """The decoded bytes, or the beginning of them; the body as it was sent if it is not decoded."""
    decoded: bool
    """Whether content codings were undone."""
    whole: bool
    """Whether `data` is all of the content."""
    remark: str = ""
    """Why it is not decoded, or not whole; empty for nothing to say."""


class _DamagedError(Exception):
    """The bytes are not what the coding says."""


class _UnknownCodingError(Exception):
    """A coding has no decoder here. The message says why."""


def content(message: Request | Response) -> MessageContent:
    """The content of a message, decoded, at most DECODED_LIMIT bytes."""
    end = message.end
    fields = [content_encoding(message.head.headers) or "", *message.head.fields.all("transfer-encoding")]
    codings = [name.strip().lower() for name in ",".join(fields).split(",")]
    codings = [name for name in codings if name not in ("", "identity", "chunked")]
    if not codings or not end.body:
        return MessageContent(end.body, False, not end.truncated)
    if len(codings) > _MOST_CODINGS:
        return MessageContent(end.body, False, False, f"not decoded: more than {_MOST_CODINGS} content codings")
    data, whole = end.body, not end.truncated
    remark = "" if whole else "decoded as far as the body was kept"
    for name in reversed(codings):
        try:
            data, flaw = _gathered(name, data)
        except _DamagedError:
            return MessageContent(end.body, False, False, f"not decoded: the body is not {name}")
        except _UnknownCodingError as error:
            return MessageContent(end.body, False, False, f"not decoded: {error}")
        if whole and flaw:
            whole, remark = False, f"decoded in part: the content is {flaw}"
    return MessageContent(data, True, whole, remark)


def _gathered(name: str, data: bytes) -> tuple[bytes, str]:
    """What one coding gives, at most DECODED_LIMIT bytes, and why that is not all; empty if it is all. Raises
    _DamagedError if it gives nothing."""
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in _decoded(name, data):
            pieces.append(piece)
            size += len(piece)
            if size > DECODED_LIMIT:
                return b"".join(pieces)[:DECODED_LIMIT], f"longer than {DECODED_LIMIT} bytes"
    except _DamagedError:
        if not size:
            raise
        return b"".join(pieces), f"no valid {name} to its end"
    return b"".join(pieces), ""


def _decoded(name: str, data: bytes) -> Iterator[bytes]:
    """The pieces that one coding gives, each of a few KiB at most. Raises _DamagedError, also where it ends early."""
    if name in ("gzip", "x-gzip"):
        return _inflated(data, _GZIP)
    if name == "deflate":  # with zlib's header (RFC 1950), as it should be, or without
        has_header = len(data) >= 2 and data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0
        return _inflated(data, _ZLIB if has_header else _RAW)
    if name == "br":
        return _unbrotlied(data)
    if name == "zstd":
        return _unzstded(data)
    raise _UnknownCodingError(f"{name[:40]} is not known")


def _inflated(data: bytes, bits: int) -> Iterator[bytes]:
    while data:
        inflater = zlib.decompressobj(bits)
        try:
            for at in range(0, len(data), _PIECE):
                waiting = data[at : at + _PIECE]
                while waiting and not inflater.eof:
                    yield inflater.decompress(waiting, _PIECE)
                    waiting = inflater.unconsumed_tail
                if inflater.eof:
                    data = inflater.unused_data + data[at + _PIECE :]
                    break
            while not inflater.eof and (piece := inflater.decompress(b"", _PIECE)):
                yield piece
        except zlib.error:
            raise _DamagedError from None
        if not inflater.eof:
            raise _DamagedError
        # Only gzip has several members one after the other. Zeros may follow the last one, as in files on tape.
        if bits != _GZIP or not data.strip(b"\0"):
            return


def _unbrotlied(data: bytes) -> Iterator[bytes]:
    try:
        import brotli  # noqa: PLC0415 - few bodies need it
    except ImportError:
        raise _UnknownCodingError("br needs the Python package brotli: pip install 'tapper-harness[decode]'") from None
    decompressor = brotli.Decompressor()
    try:
        piece = decompressor.process(data, output_buffer_limit=_PIECE)
        while piece:
            yield piece
            piece = b"" if decompressor.is_finished() else decompressor.process(b"", output_buffer_limit=_PIECE)
    except brotli.error:
        raise _DamagedError from None
    if not decompressor.is_finished():
        raise _DamagedError


def _unzstded(data: bytes) -> Iterator[bytes]:
    made = zstd.decompressor(io.BytesIO(data), _ZSTD_WINDOW_LOG)
    if made is None:
        raise _UnknownCodingError(f"zstd {zstd.MISSING}")
    reader, errors = made
    try:
        while piece := reader.read1(_PIECE):
            yield piece
    except errors:
        raise _DamagedError from None
