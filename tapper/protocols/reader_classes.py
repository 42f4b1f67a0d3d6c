"""The classes that read the messages of a connection. `tapper.run.parts` says which ones a run uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tapper.protocols.conversation import Conversation
from tapper.protocols.http2 import Http2


@dataclass(frozen=True, slots=True)
class Readers:
    """A class for each version of HTTP. Its instances read one connection."""

    http1: type[Conversation] = Conversation
    http2: type[Http2] = Http2


PLAIN_READERS: Final = Readers()
