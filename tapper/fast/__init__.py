"""Classes that exist for speed alone. Each is a subclass of a plain class and gives the same results.

`tapper.run.parts` says how they come into use. The tapper is complete without this package.
"""

from __future__ import annotations

from tapper.fast.connections import FastConnections
from tapper.fast.http1 import FastConversation
from tapper.fast.http2 import FastHttp2
from tapper.fast.ndjson import FastNdjson
from tapper.fast.ring_blocks import FastBlocks
from tapper.protocols.reader_classes import Readers
from tapper.run.parts import Parts

PARTS = Parts(
    ndjson=FastNdjson,
    connections=FastConnections,
    readers=Readers(http1=FastConversation, http2=FastHttp2),
    blocks=FastBlocks,
)
