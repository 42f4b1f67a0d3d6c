"""Zstandard (RFC 8878): Python's own module from 3.14 on, else the package `zstandard`."""

from __future__ import annotations

import sys
from typing import IO, Any, Final, Protocol

MISSING: Final = "needs Python 3.14 or the Python package zstandard: pip install 'tapper-harness[decode]'"
"""The end of a sentence whose subject is what cannot be read."""


class Readable(Protocol):
    """What a decompressor offers."""

    def read1(self, size: int = ..., /) -> bytes: ...


def decompressor(stream: IO[bytes], window_log: int) -> tuple[Readable, tuple[type[Exception], ...]] | None:
    """A reader of what the frames in `stream` hold, and the exceptions that it raises for damage. It takes memory for a
    window of at most 2**window_log bytes; a frame that asks for more is damage to it. None if no module is there."""
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - few runs need it

        options = {zstd.DecompressionParameter.window_log_max: window_log}
        return zstd.ZstdFile(stream, options=options), (zstd.ZstdError, EOFError)
    try:
        import zstandard  # noqa: PLC0415
    except ImportError:
        return None
    reader: Any = zstandard.ZstdDecompressor(max_window_size=1 << window_log)
    return reader.stream_reader(stream, read_across_frames=True, closefd=False), (zstandard.ZstdError,)
