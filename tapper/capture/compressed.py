"""Capture files that are compressed: gzip (RFC 1952) and Zstandard (RFC 8878), told by their first bytes.

The file is decompressed as it is read, so memory stays bounded however far it unfolds. What is inside is not
decompressed again.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from typing import Final

from tapper.errors import CaptureFileError, MissingPackageError, explain
from tapper.runtime import zstd

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE: Final = 0x184D2A50  # the first of 16 numbers of frames that pzstd(1) and others write for themselves
_LONGEST_MAGIC: Final = 4
_ZSTD_WINDOW_LOG: Final = 27  # 128 MiB, the most that zstd(1) takes without --long


class _Decompressed(io.BufferedIOBase):
    """The bytes that a decompressor makes. Damage is a CaptureFileError."""

    def __init__(self, read1: Callable[[int], bytes], errors: tuple[type[Exception], ...], name: str) -> None:
        self._read1 = read1
        self._errors = errors
        self._name = name

    def read1(self, size: int = -1, /) -> bytes:
        try:
            return self._read1(size)
        except self._errors as error:
            # A damaged disk has an error number, damaged data has none.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            why = explain(error) if isinstance(error, OSError) else str(error).lower()
            raise CaptureFileError(
                f"{self._name}: the compressed file is damaged or ends too early ({why}); the packets before that were "
                "read (-r)"
            ) from error


def decompressed(file: io.BufferedIOBase, name: str) -> io.BufferedIOBase:
    """The file's content, whether it is compressed or not. `name` is for messages. Raises OSError, and
    MissingPackageError where this Python cannot decompress it."""
    stream = file if isinstance(file, io.BufferedReader) else io.BufferedReader(file)
    magic = stream.peek(_LONGEST_MAGIC)[:_LONGEST_MAGIC]
    if magic.startswith(_GZIP):
        return _Decompressed(gzip.GzipFile(fileobj=stream, mode="rb").read1, (OSError, EOFError, zlib.error), name)
    if magic == _ZSTD or _ZSTD_SKIPPABLE <= int.from_bytes(magic, "little") < _ZSTD_SKIPPABLE + 16:
        made = zstd.decompressor(stream, _ZSTD_WINDOW_LOG)
        if made is None:
            raise MissingPackageError(f"{name} is compressed with zstd, which {zstd.MISSING} (-r)")
        reader, errors = made
        return _Decompressed(reader.read1, errors, name)
    return stream
