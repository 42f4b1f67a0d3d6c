"""What readers of requests and readers of responses have in common. `tapper.protocols.http1` has their contract.

A reader is in one of the states below. The function that `_STEPS` has for the state reads on from `_data[_pos]`, and

1. returns an event: a head, an End, or Lost;
2. or returns True: it has consumed bytes or changed the state, and the next step can be done at once;
3. or returns False: it needs more data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from tapper.protocols import heads
from tapper.protocols.headers import HeaderList, Headers
from tapper.protocols.messages import BODY_LIMIT, HEAD_LIMIT, End, Event, Lost
from tapper.streams.sequence import MASK

Step: TypeAlias = Event | bool

OUT_OF_STEP: Final = "out of step"
"""Nothing is known about the next byte. Waits for a segment that opens with a start line."""
LOST: Final = "lost"
"""Says Lost, then is OUT_OF_STEP."""
HEAD: Final = "head"
"""Between two messages, or in a head."""
FRAMING: Final = "framing"
"""After a head: decides how the body ends."""
MAYBE_BODY: Final = "maybe body"
"""The body may never come. If the next segment opens with a start line, it has not; else it is read."""
BODY: Final = "body"
"""In a body of known length."""
CHUNK_LINE: Final = "chunk line"
CHUNK_DATA: Final = "chunk data"
CHUNK_END: Final = "chunk end"
TRAILERS: Final = "trailers"
"""In a body with chunked coding (RFC 9112 section 7.1)."""
UNTIL_CLOSE: Final = "until close"
"""In a body that ends with the connection."""
OPAQUE: Final = "opaque"
"""The rest of the stream is not HTTP/1, or is over."""

_END_OF_SECTION: Final = re.compile(rb"\n\r?\n")
_END_OF_LINE: Final = re.compile(rb"\n")
_LINE_END: Final = re.compile(rb"\r?\n")
_CHUNK_LINE: Final = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\n]*)?\r?\n")


class Reader:
    """One direction of a connection."""

    __slots__ = (
        "_ack",
        "_awaited",
        "_body",
        "_body_limit",
        "_data",
        "_head_limit",
        "_holed",
        "_open",
        "_partial",
        "_pos",
        "_reason",
        "_remaining",
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
        self._state = HEAD if in_step else OUT_OF_STEP
        # The data that is being read.
        self._data = b""
        self._pos = 0
        self._ts = self._seq = self._ack = 0  # of its segment; _seq is the sequence number of its first byte
        # A line or section that continues in the next segment, and the pattern of its end.
        self._partial = bytearray()
        self._section_end = _END_OF_SECTION
        # The message.
        self._start: tuple[int, int, int] | None = None  # (ts, seq, ack) of its first byte; None between two messages
        self._open = False  # True if its head was given out and its End was not
        self._body = bytearray()  # at most _body_limit bytes
        self._size = 0  # bytes of the body so far, lost ones included
        self._holed = False  # True if bytes of the body were lost
        self._remaining = 0  # bytes that the body or the chunk still has
        self._awaited = BODY  # the state that reads the body, if it comes (MAYBE_BODY)
        self._reason = ""  # why the reader fell out of step

    @property
    def held(self) -> int:
        """Bytes kept of an unfinished message."""
        return len(self._partial) + len(self._body)

    def feed(self, data: bytes, ts: int = 0, seq: int = 0, ack: int = 0) -> Iterator[Event]:
        """The next bytes of the stream, from one segment.

        `ts`: nanoseconds since 1970. `seq`: the sequence number of the first byte. `ack`: the segment's.
        """
        following = (seq + len(data)) & MASK
        self._ts, self._seq, self._ack = ts, seq, ack
        # 1. Put the bytes of an unfinished section before the new ones. Search the new ones alone for its end: a sender
        #    may send a byte at a time, and to search everything each time would take the square of the head limit.
        searched = len(self._partial)
        if searched:
            self._partial += data
            if self._section_end.search(self._partial, max(0, searched - 2)) is None:
                yield from self._check_partial(searched)
                self._seq = following
                return
            data = bytes(self._partial)
            self._partial.clear()
        # 2. Do steps until one needs more data.
        self._data, self._pos, self._seq = data, 0, (seq - searched) & MASK
        while (step := _STEPS[self._state](self)) is not False:
            if not isinstance(step, bool):
                yield step
        # 3. Between two segments `_seq` belongs to the next byte.
        self._data, self._pos, self._seq = b"", 0, following

    def gap(self, size: int | None) -> Iterator[Event]:
        """`size` bytes of the stream are lost; None if their number is not known."""
        if self._state == MAYBE_BODY:
            self._state = self._awaited
        state = self._state
        if state == OPAQUE:
            return
        if state == UNTIL_CLOSE:
            self._size += size or 0
            self._holed = True
        elif state in (BODY, CHUNK_DATA) and not self._partial and size is not None and size <= self._remaining:
            # The hole lies in a body of known length: the reader stays in step.
            self._size += size
            self._seq = (self._seq + size) & MASK
            self._holed = True
            self._remaining -= size
            step = _STEPS[state](self) if self._remaining == 0 else False
            if isinstance(step, End):
                yield step
        else:
            if state == BODY:
                self._size += self._remaining  # Content-Length told the size
            yield from self._lose("bytes were lost")

    def eof(self, *, clean: bool = True) -> Iterator[Event]:
        """The stream ended. `clean` is False if there was no FIN: the capture ended, or the connection was given up."""
        if self._open:
            yield self._end(cut=not clean or self._state != UNTIL_CLOSE)
        self.stop()

    def stop(self) -> None:
        """The following bytes are a tunnel's, or another protocol's."""
        self._partial.clear()
        self._state = OPAQUE

    # What the subclasses know.

    def _begin(self, line: bytes, fields: HeaderList, framing: heads.Framing, size: int) -> Step:
        """A complete head has come: returns its event and sets the next state. `line` is its start line without the
        LF, `size` its octets."""
        raise NotImplementedError

    def _choose_framing(self) -> Step:
        """The step of the state FRAMING."""
        raise NotImplementedError

    def _begins(self, data: bytes) -> bool:
        """True if the data opens with a start line of this direction."""
        raise NotImplementedError

    def _may_become(self, data: bytes) -> bool:
        """True if data without an LF may be the beginning of a start line."""
        raise NotImplementedError

    def _section(self, block: bytes) -> tuple[HeaderList, heads.Framing] | None:
        """The fields of a header section with its empty line; None if it is malformed."""
        return heads.section(block)

    # The steps.

    def _wait_in_opaque(self) -> Step:
        return False

    def _wait_out_of_step(self) -> Step:
        if not self._begins(self._data[self._pos :]):
            return False
        self._state = HEAD
        return True

    def _say_lost(self) -> Step:
        self._partial.clear()
        self._start = None
        self._state = OUT_OF_STEP
        return Lost(self._reason)

    def _read_head(self) -> Step:
        data, pos = self._data, self._pos
        # 1. Pass over empty lines before the start line (RFC 9112 section 2.2).
        while pos < len(data) and data[pos] in b"\r\n":
            pos += 1
        self._pos = pos
        if pos == len(data):
            return False
        # 2. Note where the message began. After an interim response, the message began with that.
        if self._start is None:
            self._start = (self._ts, (self._seq + pos) & MASK, self._ack)
        # 3. Find the empty line at the end, or else check that what has come can still become a head.
        match = _END_OF_SECTION.search(data, pos)
        if match is None:
            beginning = data[pos:]
            if not (self._begins(beginning) if b"\n" in beginning else self._may_become(beginning)):
                return self._malformed("not a start line")
            return self._keep(_END_OF_SECTION)
        if match.end() - pos > self._head_limit:
            return self._malformed("a head over the limit")
        # 4. Parse it.
        self._pos = match.end()
        line, _, _ = data[pos : match.end()].partition(b"\n")
        section = self._section(data[pos + len(line) + 1 : match.end()])
        if section is None:
            return self._malformed("a malformed head")
        return self._begin(line, *section, match.end() - pos)

    def _read_maybe_body(self) -> Step:
        if self._pos == len(self._data):
            return False
        if self._pos == 0 and self._begins(self._data):
            return self._end()
        self._state = self._awaited
        return True

    def _read_body(self) -> Step:
        self._remaining -= self._take(self._remaining)
        return self._end() if self._remaining == 0 else False

    def _read_until_close(self) -> Step:
        self._take(len(self._data))
        return False

    def _read_chunk_line(self) -> Step:
        if self._data.find(b"\n", self._pos) < 0:
            return self._keep(_END_OF_LINE)
        match = _CHUNK_LINE.match(self._data, self._pos)
        if match is None:
            return self._malformed("a malformed chunk line")
        self._pos = match.end()
        self._remaining = int(match[1], 16)
        self._state = CHUNK_DATA if self._remaining else TRAILERS
        return True

    def _read_chunk_data(self) -> Step:
        self._remaining -= self._take(self._remaining)
        if self._remaining:
            return False
        self._state = CHUNK_END
        return True

    def _read_chunk_end(self) -> Step:
        if self._data[self._pos :] in (b"", b"\r"):
            return self._keep(_END_OF_LINE)
        match = _LINE_END.match(self._data, self._pos)
        if match is None:
            return self._malformed("a chunk longer than its size")
        self._pos = match.end()
        self._state = CHUNK_LINE
        return True

    def _read_trailers(self) -> Step:
        data, pos = self._data, self._pos
        empty = _LINE_END.match(data, pos)
        if empty is not None:
            self._pos = empty.end()
            return self._end()
        match = _END_OF_SECTION.search(data, pos)
        if match is None:
            return self._keep(_END_OF_LINE if data[pos:] in (b"", b"\r") else _END_OF_SECTION)
        trailers = heads.fields(data[pos : match.start() + 1])
        if trailers is None or match.end() - pos > self._head_limit:
            return self._malformed("a malformed trailer section")
        self._pos = match.end()
        return self._end(trailers)

    # What the steps have in common.

    def _opened(self) -> tuple[int, int, int]:
        """A head is given out, and FRAMING comes next. Returns (ts, seq, ack) of the message's first byte."""
        assert self._start is not None, "a head has a first byte"
        self._open = True
        self._size, self._holed = 0, False
        self._state = FRAMING
        return self._start

    def _keep(self, section_end: re.Pattern[bytes]) -> Step:
        """The section continues in the next segment."""
        self._partial += self._data[self._pos :]
        self._section_end = section_end
        if len(self._partial) > self._head_limit:
            return self._malformed("a head over the limit")
        return False

    def _check_partial(self, searched: int) -> Iterator[Event]:
        """The section is still incomplete. Check its size, and its start line as soon as that line is complete."""
        partial = self._partial
        line_came = self._state == HEAD and partial.find(b"\n") >= searched
        if len(partial) > self._head_limit or (line_came and not self._begins(bytes(partial))):
            yield from self._lose("not a message, or a head over the limit")

    def _take(self, most: int) -> int:
        """Read at most `most` bytes of the body from here; returns their number."""
        stop = min(self._pos + most, len(self._data))
        count = stop - self._pos
        room = self._body_limit - len(self._body)
        if room > 0 and not self._holed:
            self._body += self._data[self._pos : min(stop, self._pos + room)]
        self._size += count
        self._pos = stop
        return count

    def _end(self, trailers: Headers = (), *, cut: bool = False) -> End:
        """The message is over. `cut`: its end was not seen."""
        body = bytes(self._body)
        self._body.clear()
        truncated = cut or self._holed or self._size > len(body)
        self._open = False
        self._start = None
        self._state = HEAD
        return End(self._ts, (self._seq + self._pos) & MASK, body, self._size, truncated, trailers)

    def _malformed(self, reason: str) -> Step:
        """Pass over the rest of this segment. A message in progress ends here."""
        self._pos = len(self._data)
        self._reason = reason
        if not self._open:
            return self._say_lost()
        end = self._end(cut=True)
        self._state = LOST
        return end

    def _lose(self, reason: str) -> Iterator[Event]:
        """The same between two segments."""
        step = self._malformed(reason)
        if isinstance(step, End):
            yield step
            step = self._say_lost()
        if isinstance(step, Lost):
            yield step


_STEPS: Final[dict[str, Callable[[Any], Step]]] = {
    # Functions, not bound methods: a bound one would make every reader a cycle for the garbage collector to find.
    OUT_OF_STEP: Reader._wait_out_of_step,
    LOST: Reader._say_lost,
    HEAD: Reader._read_head,
    FRAMING: lambda reader: reader._choose_framing(),
    MAYBE_BODY: Reader._read_maybe_body,
    BODY: Reader._read_body,
    CHUNK_LINE: Reader._read_chunk_line,
    CHUNK_DATA: Reader._read_chunk_data,
    CHUNK_END: Reader._read_chunk_end,
    TRAILERS: Reader._read_trailers,
    UNTIL_CLOSE: Reader._read_until_close,
    OPAQUE: Reader._wait_in_opaque,
}
