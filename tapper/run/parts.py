"""Which implementations a run uses: the plain ones, or those that are written for speed.

The tapper without `tapper.fast` is complete. `tapper.fast` holds subclasses of some of its classes; each gives the same
results in less time. This module is the only one that imports `tapper.fast`. All others get the classes by arguments of
their constructors, and call them by the plain class's methods:

    cli: parts = chosen()
      parts.ndjson() -> RecordWriter(..., parts)
        RecordWriter -> Session(..., parts.readers) -> Conversation (HTTP/1), Http2
        RecordWriter -> parts.connections(...): the packets of one source
      LiveTap(..., parts.blocks), Follower(..., blocks): the memory of packet rings

To add a part:

1. Let the plain class do its work in methods that a subclass can override, and let its user take the class as an
   argument. Protocol readers are fields of `tapper.protocols.reader_classes.Readers`; everything else is a field of
   `Parts`. The field's default is the plain class, so that `PLAIN` has it.
2. Write the subclass in a module of `tapper.fast`. Its docstring names the plain class and the measured gain.
3. Name the subclass in `tapper.fast.PARTS`.
4. Show in tests/unit/fast that both give the same results.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec

from tapper.capture.walk import Blocks
from tapper.output.ndjson import Ndjson
from tapper.protocols.reader_classes import PLAIN_READERS, Readers
from tapper.protocols.records import Record
from tapper.streams.connections import Connections


@dataclass(frozen=True, slots=True)
class Parts:
    """The classes of which a fast form may exist."""

    ndjson: type[Ndjson] = Ndjson
    readers: Readers = PLAIN_READERS
    connections: type[Connections[Record]] = Connections
    blocks: type[Blocks] = Blocks


PLAIN = Parts()


def chosen() -> Parts:
    """The fast parts where the package `tapper.fast` exists and the environment variable TAPPER_PLAIN is unset or
    empty; else PLAIN."""
    if os.environ.get("TAPPER_PLAIN") or find_spec("tapper.fast") is None:
        return PLAIN
    from tapper.fast import PARTS  # noqa: PLC0415 - the package may be missing

    return PARTS
