"""Finds out what a connection speaks, by its bytes and never by its port.

TLS: a record header (RFC 8446 section 5.1). HTTP/2: the client's preface or the server's SETTINGS (RFC 9113 section
3.4), or, where the beginning was not captured, a segment that is frames from its first byte to its last (section 4.1),
as senders send them. A single frame that could be another protocol's length field proves nothing. HTTP/1: a message
head.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from tapper.protocols import heads
from tapper.protocols.connection_reader import ConnectionReader, Content
from tapper.protocols.frames import PREFACE, looks_like_frames
from tapper.protocols.http_connections import Http1Connection
from tapper.protocols.outcome import OPEN, ExchangeOutcome
from tapper.protocols.proxy_protocol import HeaderRemover
from tapper.protocols.reader_classes import Readers
from tapper.protocols.records import Record
from tapper.protocols.tls import HelloReader
from tapper.streams.bounds import Pace
from tapper.streams.connection import Connection, WireSecurity
from tapper.streams.reassembly import Data


class Kind(StrEnum):
    """Connections without a decoded message are counted by these kinds."""

    TLS = "tls"
    HTTP2 = "http2"
    OTHER = "other"


_RECORD_TYPES = frozenset({0x14, 0x15, 0x16, 0x17})
_SETTINGS = 4
_FRAME_HEADER = 9

ENOUGH = len(PREFACE)
"""From so many bytes on, a stream's beginning is never too short to recognise."""


def recognise(data: bytes, *, beginning: bool) -> Kind | None:
    """TLS or HTTP2, or None. `data` is a segment, or with `beginning` the first bytes of a stream."""
    if len(data) >= 3 and data[0] in _RECORD_TYPES and data[1] == 3 and data[2] <= 4:
        return Kind.TLS
    if data.startswith(PREFACE) or (_opens_with_settings(data) if beginning else looks_like_frames(data, exact=True)):
        return Kind.HTTP2
    return None


def is_too_short(data: bytes) -> bool:
    """Whether a stream's first bytes may become TLS or HTTP/2, but do not suffice for `recognise`."""
    if len(data) < 3 and data[:1] and data[0] in _RECORD_TYPES and data[1:2] in (b"", b"\x03"):
        return True
    if len(data) < _FRAME_HEADER and data[:1] == b"\0":
        return True
    return len(data) < ENOUGH and PREFACE.startswith(data)


def _opens_with_settings(data: bytes) -> bool:
    """Whether a server's first frame of HTTP/2 opens the stream."""
    if len(data) < _FRAME_HEADER or data[3] != _SETTINGS:
        return False
    return int.from_bytes(data[:3], "big") % 6 == 0 and data[5:9] == b"\0\0\0\0"


class Undecided(ConnectionReader):
    """Keeps the first bytes of both sides until they tell the protocol, and then hands them to its reader. A header of
    the PROXY protocol ahead of them is passed over."""

    __slots__ = (
        "_body_limit",
        "_connection",
        "_early",
        "_gapped",
        "_http1",
        "_pace",
        "_proxied",
        "_readers",
        "_removers",
    )

    def __init__(self, connection: Connection[Record], body_limit: int, readers: Readers, pace: Pace | None) -> None:
        super().__init__(connection.client)
        self._connection = connection
        self._body_limit = body_limit
        self._readers = readers
        self._pace = pace
        self._removers = [None if self.client == 1 - side else HeaderRemover() for side in (0, 1)]
        """Of the sides of which the first bytes have not come."""
        self._proxied = False  # True once the client's side began with a PROXY header
        self._early: list[list[Data] | None] = [[], []]
        """Of each side, the first chunks while they are too few to decide; None once they were enough, or lost."""
        self._gapped = [False, False]
        """Whether bytes of that side were lost."""
        self._http1: Http1Connection | None = None
        """Reads on trial, once the client is known."""

    @property
    def held(self) -> int:
        return 0 if self._http1 is None else self._http1.held

    def data(self, side: int, chunk: Data) -> Sequence[Content]:
        remover = self._removers[side]
        if remover is None:
            return self._decide(side, chunk)
        chunks = remover.feed(chunk)
        header = remover.header
        if header is not None and not self._proxied:
            self._proxied, self.client = True, side
            self._connection.proxied_for = header.source
        return self._after_header(side, remover, chunks)

    def _after_header(self, side: int, remover: HeaderRemover, chunks: Sequence[Data]) -> list[Content]:
        """Read chunks of this side that do not belong to a header."""
        if remover.is_done:
            self._removers[side] = None
        contents: list[Content] = []
        for chunk in chunks:
            contents += self._decide(side, chunk) if self.successor is None else self.current.data(side, chunk)
        return contents

    def _from_start(self, side: int) -> bool:
        """Whether that side is read from its first byte."""
        return self._connection.from_start(side) or (self._proxied and side == self.client)

    def _decide(self, side: int, chunk: Data) -> Sequence[Content]:
        early, from_start = self._early[side], self._from_start(side)
        chunks = self._early[side] = [*(early or ()), chunk]
        data = b"".join(piece.data for piece in chunks)
        # 1. TLS and HTTP/2 are told by their first bytes, or in the midst of a connection by a segment of frames. But
        #    HTTP/2 of which the beginning was read begins with its preface.
        beginning = early is not None and from_start
        kind = recognise(data, beginning=beginning)
        if kind is Kind.TLS:
            self.successor = HelloReader(self.client)
        elif kind is Kind.HTTP2 and (beginning or not from_start or self._gapped[side]):
            others_beginning = self._early[1 - side] is not None and self._from_start(1 - side)
            in_step = (others_beginning, beginning) if side else (beginning, others_beginning)
            self.successor = self._readers.http2(self.client, in_step, self._body_limit, self._pace)
        if self.successor is not None:
            return [*self._read_early(1 - side), *self._read_early(side)]
        # 2. The first bytes may be too few.
        if beginning and is_too_short(data):
            return []
        # 3. It may be HTTP/1.
        if beginning:
            self._connection.set_wire(WireSecurity.PLAIN)  # TLS would have begun with a record
        if self.client is None:
            if heads.begins_request(data):
                self.client = side
            elif heads.begins_response(data):
                self.client = 1 - side
        return self._release(side)

    def gap(self, side: int, size: int | None) -> Sequence[Content]:
        remover = self._removers[side]
        if remover is not None and remover.lose(size):
            return self._after_header(side, remover, ())
        self._gapped[side] = True
        return [*self._release(side), *self._reader().gap(side, size), *self._settle(side)]

    def end(self, side: int) -> Sequence[Content]:
        return [*self._release(side), *self._reader().end(side), *self._settle(side)]

    def finish(self, unfinished: ExchangeOutcome = OPEN) -> Sequence[Content]:
        contents = [*self._release(0), *self._release(1)]
        if self.successor is None and self._http1 is None:
            return contents  # no byte has come, as of a SYN without an answer
        return [*contents, *self._reader().finish(unfinished)]

    def _release(self, side: int) -> list[Content]:
        """Read what was kept of this side; its later chunks are read as they come."""
        return [*self._read_early(side), *self._settle(side)]

    def _settle(self, side: int) -> list[Content]:
        """Once HTTP/1 is proven, it reads what was kept of the other side, too."""
        if self.successor is None and self._http1 is not None and self._http1.proven:
            self.successor = self._http1
        return [] if self.successor is None else self._read_early(1 - side)

    def _read_early(self, side: int) -> list[Content]:
        early, self._early[side] = self._early[side], None
        remover = self._removers[side]
        if remover is not None:  # what may have become a header did not
            self._removers[side] = None
            early = [*(early or ()), *remover.give_up()]
        contents: list[Content] = []
        for chunk in early or ():
            contents += self._reader().data(side, chunk)
        return contents

    def _reader(self) -> ConnectionReader:
        """The successor. Before there is one: HTTP/1's reader, or one that reads nothing while the client is not
        known."""
        if self.successor is not None:
            return self.current
        if self._http1 is None:
            if self.client is None:
                return ConnectionReader(None)
            started = (self._from_start(0), self._from_start(1))
            self._http1 = Http1Connection(self.client, started, self._body_limit, self._readers, self._pace)
        return self._http1.current
