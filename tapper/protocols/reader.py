"""The part of an HTTP/1 reader that requests and responses have in common. The contract is in
`tapper.protocols.http1`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from tapper.protocols import heads
from tapper.protocols.fieldlist import FieldList, Headers
from tapper.protocols.messages import BODY_LIMIT, HEAD_LIMIT, End, Event, Lost
from tapper.protocols.patterns import LONGEST, Pattern, alike, learned
from tapper.streams.sequence import MASK

State: TypeAlias = Callable[[Any], Event | bool]

_END_OF_SECTION = re.compile(rb"\n\r?\n")
_END_OF_LINE = re.compile(rb"\n")
_CHUNK_LINE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\n]*)?\r?\n")
_LINE_FEED: Final = 10
_END_OF_HEAD: Final = b"\r\n\r\n"
_LINE_ENDS = (b"\r\n", b"\n")


class Reader:
    """What both directions share. A state is a method; it returns an event, True for progress, or False for more."""

    __slots__ = (
        "_ack",
        "_body",
        "_body_limit",
        "_data",
        "_fields",
        "_head_limit",
        "_holed",
        "_open",
        "_other",
        "_partial",
        "_pattern",
        "_pos",
        "_reason",
        "_remaining",
        "_second",
        "_section_end",
        "_seq",
        "_size",
        "_start",
        "_state",
        "_ts",
    )

    def __init__(self, *, in_step: bool = True, head_limit: int = HEAD_LIMIT, body_limit: int = BODY_LIMIT) -> None:
        self._head_limit = head_limit
        self._body_limit = body_limit
        # Functions, not bound methods: a bound one would make every reader a cycle for the garbage collector to find.
        self._state: State = Reader._message if in_step else Reader._out_of_step
        self._data = b""
        self._pos = 0
        self._ts = self._seq = self._ack = 0  # of the segment being read; _seq is that of _data's first byte
        # A section whose end has not come, and what is looked for as its end.
        self._partial = bytearray()
        self._section_end = _END_OF_SECTION
        self._start: tuple[int, int, int] | None = None  # (ts, seq, ack) of the message's first byte
        self._open = False  # a head was given out, its End was not
        self._body = bytearray()
        self._size = 0
        self._holed = False
        self._remaining = 0
        self._reason = ""
        # What the last heads had in common, the latest first. Not counted as held.
        self._pattern: Pattern | None = None
        self._other: Pattern | None = None
        self._fields: FieldList | None = None  # of the last head that was whole
        self._second = 1  # where its second line began

    @property
    def held(self) -> int:
        """Bytes kept of an unfinished message."""
        return len(self._partial) + len(self._body)

    def _section_at(self, data: bytes) -> int:
        """The end of the head that these bytes open with; its fields are then in `_fields`, and where its second line
        begins in `_second`. 0 where there is none, or where the reader is not between two messages."""
        if self._start is not None or self._state is not _BETWEEN:
            return 0
        # Often the first line is as long as that of the message before, so its end is looked for there first. Where one
        # is found there by chance, the right one is before it, and a line with another in it is no start line.
        first = self._second
        if first > len(data) or data[first - 1] != _LINE_FEED:
            self._second = first = data.find(b"\n") + 1
            if not first:
                return 0
        pattern = self._pattern
        fields = None if pattern is None else pattern.read(data, first) or self._otherwise(data, first)
        if fields is None:
            stop = data.find(_END_OF_HEAD, first - 2) + 4
            if stop < 4 or stop > self._head_limit:
                return 0
            fields = self._unfamiliar(data[first:stop])
            if fields is None:
                return 0
        self._fields = fields
        stop = first + fields.size
        return stop if stop <= self._head_limit else 0

    def _otherwise(self, data: bytes, first: int) -> FieldList | None:
        """The fields that begin there, where they are like those before the last ones."""
        other = self._other
        fields = None if other is None else other.read(data, first)
        if fields is not None:
            self._pattern, self._other = other, self._pattern
        return fields

    def _unfamiliar(self, block: bytes) -> FieldList | None:
        """Other fields, which are remembered. With the empty line."""
        fields = heads.section(block)
        if fields is not None and len(block) <= LONGEST:
            if not alike(self._pattern, fields):
                self._pattern, self._other = self._other, self._pattern
            self._pattern = learned(fields, block, self._pattern)
        return fields

    def feed(self, data: bytes, ts: int = 0, seq: int = 0, ack: int = 0) -> Iterator[Event]:
        """The next bytes of the stream, one segment's. ts in nanoseconds; seq of the first byte; ack its segment's."""
        following = seq + len(data)
        self._ts, self._seq, self._ack = ts, seq, ack
        searched = len(self._partial)
        if searched:
            self._partial += data
            if self._section_end.search(self._partial, max(0, searched - 2)) is None:
                yield from self._still_partial(searched)
                self._seq = following
                return
            self._seq -= searched
            data = bytes(self._partial)
            self._partial.clear()
        self._data, self._pos = data, 0
        while (event := self._state(self)) is not False:
            if event is not True:
                yield event
                if self._pos == len(data) and self._state is Reader._message:
                    break  # the usual end, for the price of a comparison
        self._data, self._pos, self._seq = b"", 0, following

    def gap(self, size: int | None) -> Iterator[Event]:
        """`size` bytes of the stream are lost; None where nobody knows how many."""
        state = self._state
        if state is Reader._opaque:
            return
        if state is Reader._until_close:
            self._size += size or 0
            self._holed = True
        elif state in _COUNTED and not self._partial and size is not None and size <= self._remaining:
            self._size += size
            self._seq += size
            self._holed = True
            self._remaining -= size
            event = state(self) if self._remaining == 0 else False
            if isinstance(event, End):
                yield event
        else:
            if state is Reader._length_body:
                self._size += self._remaining  # the length said so
            yield from self._lose("bytes were lost")

    def eof(self, *, clean: bool = True) -> Iterator[Event]:
        """The stream ended: by FIN, or (not clean) because nobody looks any longer."""
        if self._open:
            yield self._end(cut=not clean or self._state is not Reader._until_close)
        self.stop()

    def stop(self) -> None:
        """From here on the bytes are somebody else's: a tunnel or another protocol."""
        self._partial.clear()
        self._state = Reader._opaque

    # States.

    def _opaque(self) -> Event | bool:
        return False

    def _out_of_step(self) -> Event | bool:
        if self._begins(self._data[self._pos :]):
            self._state = Reader._message
            return True
        return False

    def _message(self) -> Event | bool:
        """Before or in a head."""
        data, pos = self._data, self._pos
        while pos < len(data) and data[pos] in b"\r\n":
            pos += 1  # RFC 9112 section 2.2: a server ignores at least one empty line before a request
        self._pos = pos
        if pos == len(data):
            return False
        if self._start is None:
            self._start = (self._ts, (self._seq + pos) & MASK, self._ack)
        first = data.find(b"\n", pos) + 1
        pattern, fields = self._pattern, None
        if first and pattern is not None:
            fields = pattern.read(data, first) or self._otherwise(data, first)
        if fields is not None:
            stop = first + fields.size
        else:
            match = _END_OF_SECTION.search(data, pos)
            if match is None:
                if not self._plausible(data[pos:]):
                    return self._malformed("not a start line")
                return self._keep(_END_OF_SECTION)
            stop = match.end()
        if stop - pos > self._head_limit:
            return self._malformed("a head over the limit")
        self._pos = stop
        fields = fields or self._unfamiliar(data[first:stop])
        if fields is None:
            return self._malformed("a malformed head")
        return self._head(data[pos : first - 1], fields, stop - pos)

    def _head(self, line: bytes, fields: FieldList, size: int) -> Event | bool:
        """A whole head: its event, with the next state set. `line` is its first, without the line feed."""
        raise NotImplementedError

    def _begins(self, data: bytes) -> bool:
        """Whether the bytes open with a start line of this direction."""
        raise NotImplementedError

    def _may_become(self, data: bytes) -> bool:
        """Whether bytes without a line feed may be the beginning of one."""
        raise NotImplementedError

    def _length_body(self) -> Event | bool:
        remaining, pos = self._remaining, self._pos
        if not self._size and remaining <= len(self._data) - pos and remaining <= self._body_limit:
            # Most bodies, and those of no bytes, are in one piece: it is the body, without a way round by a buffer.
            self._pos = stop = pos + remaining
            self._size, self._remaining = remaining, 0
            return self._end(body=self._data[pos:stop])
        self._remaining -= self._take(self._remaining)
        return self._end() if self._remaining == 0 else False

    def _until_close(self) -> Event | bool:
        self._take(len(self._data))
        return False

    def _chunk_line(self) -> Event | bool:
        if self._data.find(b"\n", self._pos) < 0:
            return self._keep(_END_OF_LINE)
        match = _CHUNK_LINE.match(self._data, self._pos)
        if match is None:
            return self._malformed("a malformed chunk line")
        self._pos = match.end()
        self._remaining = int(match[1], 16)
        self._state = Reader._chunk_data if self._remaining else Reader._trailers
        return True

    def _chunk_data(self) -> Event | bool:
        self._remaining -= self._take(self._remaining)
        if self._remaining:
            return False
        self._state = Reader._chunk_end
        return True

    def _chunk_end(self) -> Event | bool:
        if self._data[self._pos :] in (b"", b"\r"):
            return self._keep(_END_OF_LINE)
        for line_end in _LINE_ENDS:
            if self._data.startswith(line_end, self._pos):
                self._pos += len(line_end)
                self._state = Reader._chunk_line
                return True
        return self._malformed("a chunk longer than its size")

    def _trailers(self) -> Event | bool:
        data, pos = self._data, self._pos
        for line_end in _LINE_ENDS:
            if data.startswith(line_end, pos):
                self._pos += len(line_end)
                return self._end()
        match = _END_OF_SECTION.search(data, pos)
        if match is None:
            return self._keep(_END_OF_LINE if data[pos:] in (b"", b"\r") else _END_OF_SECTION)
        trailers = heads.fields(data[pos : match.start() + 1].decode("latin-1"))
        if trailers is None or match.end() - pos > self._head_limit:
            return self._malformed("a malformed trailer section")
        self._pos = match.end()
        return self._end(trailers)

    def _report(self) -> Event | bool:
        """Out of step, said once."""
        self._partial.clear()
        self._start = None
        self._state = Reader._out_of_step
        return Lost(self._reason)

    # Helpers of the states.

    def _begun(self, after: State) -> tuple[int, int, int]:
        """A head is given out and `after` comes next. Returns where the message began."""
        assert self._start is not None
        self._open = True
        self._size, self._holed = 0, False
        self._state = after
        return self._start

    def _plausible(self, data: bytes) -> bool:
        """Whether the beginning of a head, with no end yet, can still become one."""
        return self._begins(data) if b"\n" in data else self._may_become(data)

    def _keep(self, section_end: re.Pattern[bytes]) -> Event | bool:
        """The section goes on in the next segment."""
        self._partial += self._data[self._pos :]
        self._section_end = section_end
        if len(self._partial) > self._head_limit:
            return self._malformed("a head over the limit")
        return False

    def _still_partial(self, searched: int) -> Iterator[Event]:
        """The section grew without ending. Its first line is looked at when it is complete, not only with the last."""
        partial = self._partial
        line_came = self._state is Reader._message and partial.find(b"\n") >= searched
        if len(partial) > self._head_limit or (line_came and not self._begins(bytes(partial))):
            yield from self._lose("not a message, or a head over the limit")

    def _take(self, most: int) -> int:
        """Up to `most` bytes of body from here; returns how many there were."""
        stop = min(self._pos + most, len(self._data))
        count = stop - self._pos
        room = self._body_limit - len(self._body)
        if room > 0 and not self._holed:
            self._body += self._data[self._pos : min(stop, self._pos + room)]
        self._size += count
        self._pos = stop
        return count

    def _end(self, trailers: Headers = (), *, cut: bool = False, body: bytes | None = None) -> End:
        """`body` is it, where it is not in the buffer."""
        if body is None:
            body = bytes(self._body)
            self._body.clear()
        truncated = cut or self._holed or self._size > len(body)
        end = End(self._ts, (self._seq + self._pos) & MASK, body, self._size, truncated, trailers)
        self._open = False
        self._start = None
        self._state = Reader._message
        return end

    def _malformed(self, reason: str) -> Event | bool:
        """The rest of this segment is passed over; the message in progress, if any, ends here."""
        self._pos = len(self._data)
        self._reason = reason
        if not self._open:
            return self._report()
        end = self._end(cut=True)
        self._state = Reader._report
        return end

    def _lose(self, reason: str) -> Iterator[Event]:
        """The same between two segments."""
        event = self._malformed(reason)
        if isinstance(event, End):
            yield event
            event = self._report()
        if isinstance(event, Lost):
            yield event


_BETWEEN: Final = Reader._message
_COUNTED: Final = frozenset({Reader._length_body, Reader._chunk_data})
"""The states that know how many bytes are to come."""
