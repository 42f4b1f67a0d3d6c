"""Standard output of the kit's commands: a failed write is one sentence, and a reader who has gone is no error.

Printing raises the exceptions of this module, and never a BrokenPipeError or another OSError: those would be about a
pipe or file of the kit's own. Failed writes to standard error are dropped: there is no other place to report them.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

from harness.errors import HarnessError, Unsupported
from tapper.runtime import standard_streams

if TYPE_CHECKING:
    from typing_extensions import Buffer  # in the standard library from Python 3.12 on

READER_GONE = 141
"""Exit code: 128 plus the number of SIGPIPE, as a shell shows it for a program that this signal has ended."""


class ReaderGone(HarnessError):
    """The reader of standard output has ended, as `head` does when it has read enough."""


class _Output(io.RawIOBase):
    """Standard output's descriptor, which stays open."""

    number = 1

    def fileno(self) -> int:
        return self.number

    def isatty(self) -> bool:
        return os.isatty(self.number)

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        try:
            return os.write(self.number, data)
        except BrokenPipeError:
            raise ReaderGone("nobody reads standard output any longer") from None
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise Unsupported(f"standard output cannot be written: {reason}; send it elsewhere") from None


class _Messages(_Output):
    """Likewise standard error's."""

    number = 2

    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except HarnessError:
            return memoryview(data).nbytes


def prepare() -> None:
    """Make this module write everything that is printed from now on.

    A stream that is not the process's own any more, as in a test, is left as it is.
    """
    own = sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__
    standard_streams.prepare()
    if own[0]:
        buffer = io.BufferedWriter(_Output())
        sys.stdout = io.TextIOWrapper(buffer, sys.stdout.encoding, "backslashreplace", line_buffering=os.isatty(1))
    if own[1]:
        messages = io.BufferedWriter(_Messages())
        sys.stderr = io.TextIOWrapper(messages, sys.stderr.encoding, "backslashreplace", line_buffering=True)


def finish() -> None:
    """Flush the buffer. Raises `ReaderGone` or `Unsupported`."""
    sys.stdout.flush()


def drop() -> None:
    """Send standard output and its buffer to /dev/null."""
    standard_streams.drop(sys.stdout)
