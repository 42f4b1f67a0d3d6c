"""What readers of requests and readers of responses have in common. `tapper.protocols.http1` has their contract.

A reader is in one of the states below. The function that `_STEPS` has for the state reads on from `_data[_pos]`, and

1. returns an event: a head, an End, or Lost;
2. or returns True: it has consumed bytes or changed the state, and the next step can be done at once;
3. or returns False: it needs more data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, ClassVar, Final, TypeAlias

from tapper.protocols import heads
from tapper.protocols.headers import HeaderList, Headers
from tapper.protocols.messages import BODY_LIMIT, HEAD_LIMIT, End, Event, Lost
from tapper.protocols.outcome import (
    COMPLETE,
    LONGEST_LINE,
    LOST,
    MOST_PARTS,
    OPEN,
    UNPARSABLE,
    ExchangeOutcome,
    MalformedPart,
)
from tapper.streams.sequence import MASK

Step: TypeAlias = Event | bool
UNREADABLE_START: Final = "not a start line"

OUT_OF_STEP: Final = "out of step"
"""Nothing is known about the next byte. Waits for a segment that opens with a start line."""
FALLING: Final = "falling"
"""Says Lost, then is OUT_OF_STEP."""
ABANDONED: Final = "abandoned"
"""After a head that does not tell where its message ends: ends the message, then is FALLING."""
HEAD: Final = "head"
"""Between two messages, or in a head."""
FRAMING: Final = "framing"
"""After a head: decides how the body ends."""
MAYBE_BODY: Final = "maybe body"
"""The body may never come. If the next bytes are a start line, it has not; else they are the body's."""
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
_AT_ONCE: Final = re.compile(b"")


class Reader:
    """One direction of a connection."""

    MESSAGE: ClassVar[str] = ""
    """`request` or `response`."""

    __slots__ = (
        "_ack",
        "_awaited",
        "_body",
        "_body_limit",
        "_data",
        "_head_limit",
        "_head_outcome",
        "_holed",
        "_malformed_parts",
        "_open",
        "_partial",
        "_pieces",
        "_pos",
        "_remaining",
        "_removed",
        "_room_for_fields",
        "_section_end",
        "_seq",
        "_shortened",
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
        self._partial: bytes | bytearray = b""  # as `_body`: a bytearray only while there is something in it
        self._section_end = _END_OF_SECTION
        # The message.
        self._start: tuple[int, int, int] | None = None  # (ts, seq, ack) of its first byte; None between two messages
        self._open = False  # True if its head was given out and its End was not
        self._pieces: bytearray | None = None  # of a followed body: what has come since the last `take_pieces`
        self._body: bytes | bytearray = b""  # as `_partial`; at most _body_limit bytes
        self._size = 0  # bytes of the body so far, lost ones included
        self._holed = False  # True if bytes of the body were lost
        self._remaining = 0  # bytes that the body or the chunk still has
        self._awaited = BODY  # the state that reads the body, if it comes (MAYBE_BODY)
        self._malformed_parts: tuple[MalformedPart, ...] = ()
        self._shortened: bytes | None = None  # of a head over the limit: its first field lines
        self._room_for_fields = 0  # octets of the field lines that may be added to it
        self._head_outcome = COMPLETE  # of a message that comes to its end; UNPARSABLE if its head was shortened
        self._removed = 0  # octets of that head that are not kept in _partial

    @property
    def held(self) -> int:
        """Bytes kept of an unfinished message."""
        return len(self._partial) + len(self._body) + len(self._shortened or b"")

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
            self._partial = b""
        # 2. Do steps until one needs more data.
        self._data, self._pos, self._seq = data, 0, (seq - searched) & MASK
        yield from self._run(True)
        # 3. Between two segments `_seq` belongs to the next byte.
        self._data, self._pos, self._seq = b"", 0, following

    def gap(self, size: int | None) -> Iterator[Event]:
        """`size` bytes of the stream are lost; None if their number is not known."""
        if self._state == MAYBE_BODY:
            yield from self._await_body()
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
            if self._open:
                yield self._end(cut=LOST)
            yield self._say_lost()

    def eof(self, unfinished: ExchangeOutcome = OPEN, *, clean: bool = True) -> Iterator[Event]:
        """The stream ended. `clean` is False if there was no FIN: the capture ended, or the connection was given up.
        `unfinished` is the outcome of a message that had not come to its end."""
        last_line = self._partial.rfind(b"\n") + 1
        if self._state == HEAD and last_line:  # a head was cut off: its complete lines are told
            head = bytes(self._partial[:last_line]) + b"\r\n"
            self._partial = b""
            step = self._parse_head(head, last_line + self._removed)
            if not isinstance(step, bool):
                yield step
        if self._state == MAYBE_BODY and self._partial:
            yield from self._await_body()
        if self._open:
            at_end = self._state == MAYBE_BODY or (clean and self._state == UNTIL_CLOSE)
            yield self._end(cut=COMPLETE if at_end else unfinished)
        self.stop()

    @property
    def last_ts(self) -> int:
        """The time of the last segment, in nanoseconds since 1970."""
        return self._ts

    def follow(self) -> bool:
        """From now on `take_pieces` gives the body, from its beginning if all of it was kept. Returns whether all of it
        was."""
        is_whole = not self._holed and self._size == len(self._body)
        self._pieces = bytearray(self._body) if is_whole else bytearray()
        return is_whole

    def take_pieces(self) -> bytes:
        """What has come of a followed body since the last call."""
        pieces = bytes(self._pieces or b"")
        if self._pieces is not None:
            self._pieces.clear()
        return pieces

    def try_start(self, data: bytes) -> None:
        """A message is expected to begin with these bytes, which come next: a reader out of step need not see the whole
        start line in one segment."""
        if self._state == OUT_OF_STEP and self._may_become(data):
            self._state = HEAD

    def unfollow(self) -> None:
        self._pieces = None

    def stop(self) -> None:
        """The following bytes are a tunnel's, or another protocol's."""
        self._partial = b""
        self._state = OPAQUE

    # What the subclasses know.

    def _begin(self, line: bytes, fields: HeaderList, framing: heads.Framing | None, size: int) -> Step:
        """A complete head has come: returns its event and sets the next state. `line` is its start line without the
        LF, `size` its octets. `framing` is None where the fields contradict each other."""
        raise NotImplementedError

    def _unreadable(self, line: bytes) -> Step:
        """The event of a head that cannot be read. `line` is its first line, as far as it has come."""
        raise NotImplementedError

    def _choose_framing(self) -> Step:
        """The step of the state FRAMING."""
        raise NotImplementedError

    def _may_lack_body(self) -> bool:
        """In MAYBE_BODY: True if this segment may be the next message's."""
        return True

    def _begins(self, data: bytes) -> bool:
        """True if the data opens with a start line of this direction."""
        raise NotImplementedError

    def _may_become(self, data: bytes) -> bool:
        """True if data without an LF may be the beginning of a start line."""
        raise NotImplementedError

    def _is_start_line(self, line: bytes) -> bool:
        """True if the line can be read as a start line, perhaps a malformed one."""
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

    def _say_lost(self) -> Lost:
        self._partial = b""
        self._malformed_parts = ()
        self._shortened, self._removed, self._head_outcome = None, 0, COMPLETE
        self._start = None
        self._state = OUT_OF_STEP
        return Lost()

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
            if not self._may_begin(beginning):
                return self._malformed(UNREADABLE_START)
            return self._keep(_END_OF_SECTION)
        self._pos = match.end()
        head = data[pos : self._pos]
        size = len(head) + self._removed
        if size > self._head_limit:
            head = self._shorten(head)
        # 4. Parse it.
        return self._parse_head(head, size)

    def _parse_head(self, head: bytes, size: int) -> Step:
        """The event of a head with its empty line; `size` is its octets. Parses it strictly, and else leniently."""
        line, _, block = head.partition(b"\n")
        section = None if self._shortened is not None else self._section(block)
        if section is not None:
            return self._begin(line, *section, size)
        fields, framing, invalid = heads.lenient_section(block)
        if self._shortened is not None:
            framing_fields = tuple(field for field in fields.headers if field[0].lower() in heads.FRAMING_NAMES)
            headers, invalid = heads.lenient_fields(self._shortened)
            fields = HeaderList(headers + framing_fields)
            self._shortened, self._removed = None, 0
        for reason, text in invalid:
            self._note(reason, text)
        return self._begin(line, fields, framing, size)

    def _read_maybe_body(self) -> Step:
        data = self._data[self._pos :]
        if not data:
            return False
        if self._pos == 0 and self._may_lack_body():
            is_line = b"\n" in data
            if is_line and self._begins(data):
                return self._end()
            if not is_line and len(data) <= heads.LONGEST_START and self._may_become(data):
                return self._keep(_AT_ONCE)
        self._state = self._awaited
        return True

    def _await_body(self) -> Iterator[Event]:
        """The body has come after all, with what was kept of it."""
        data, self._partial = bytes(self._partial), b""
        following, self._state = self._seq, self._awaited
        self._data, self._seq = data, (following - len(data)) & MASK
        yield from self._run(True)
        self._data, self._pos, self._seq = b"", 0, following

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
            return self._malformed("a malformed chunk size")
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
        if len(self._data) - self._pos < 2 and self._data[self._pos :] in (b"", b"\r"):
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
        if match.end() - pos > self._head_limit:
            return self._malformed(f"a trailer section over {self._head_limit} octets")
        trailers, invalid = heads.lenient_fields(data[pos : match.start() + 1])
        for reason, text in invalid:
            self._note(reason, text)
        self._pos = match.end()
        return self._end(trailers)

    # What the steps have in common.

    def _opened(self, *, is_framed: bool) -> tuple[int, int, int]:
        """A head is given out, and FRAMING or ABANDONED comes next. Returns (ts, seq, ack) of the message's first
        byte."""
        assert self._start is not None, "a head has a first byte"
        self._open = True
        self._size, self._holed = 0, False
        self._state = FRAMING if is_framed else ABANDONED
        return self._start

    def _keep(self, section_end: re.Pattern[bytes]) -> Step:
        """The section continues in the next segment."""
        self._partial = bytearray(self._data[self._pos :])
        self._section_end = section_end
        return self._check_size()

    def _check_partial(self, searched: int) -> Iterator[Event]:
        """The section is still incomplete. Check its size, and its start line as soon as that line is complete."""
        partial = self._partial
        line_came = self._state == HEAD and partial.find(b"\n") >= searched
        step = self._malformed(UNREADABLE_START) if line_came and not self._may_begin(bytes(partial)) else False
        yield from self._run(step or self._check_size())

    def _check_size(self) -> Step:
        """False where what is kept of the section is within the limit. A head over the limit is shortened."""
        if len(self._partial) <= self._head_limit:
            return False
        if self._state == HEAD:
            self._partial = bytearray(self._shorten(bytes(self._partial)))
            if len(self._partial) <= self._head_limit // 2:
                return False
        return self._malformed(f"a {'head' if self._state == HEAD else 'section of a body'} over the limit")

    def _shorten(self, head: bytes) -> bytes:
        """What has to stay of a head over the limit, so that its message can be told and its end be found."""
        short, lines, is_cut = heads.shorten(head)
        self._removed += len(head) - len(short)
        if self._shortened is None:
            self._head_outcome, self._shortened, self._room_for_fields = UNPARSABLE, b"", self._head_limit
            line = head.partition(b"\n")[0]
            self._note(f"a head over {self._head_limit} octets", line.decode("latin-1"), is_start=True)
        if self._room_for_fields:
            fields = lines[: lines.rfind(b"\n", 0, self._room_for_fields) + 1]
            self._shortened += fields
            self._room_for_fields = 0 if is_cut or len(fields) < len(lines) else self._room_for_fields - len(fields)
        return short

    def _may_begin(self, data: bytes) -> bool:
        """True if the data begins with a start line, perhaps a malformed one, or may be the beginning of one."""
        line, feed, _ = data.partition(b"\n")
        return self._begins(data) or (self._is_start_line(line) if feed else self._may_become(data))

    def _note(self, reason: str, line: str | None = None, *, is_start: bool = False) -> None:
        """Remember what is malformed in the message."""
        if len(self._malformed_parts) < MOST_PARTS:
            shown = None if line is None else line.rstrip("\r")[:LONGEST_LINE]
            self._malformed_parts += (MalformedPart(self.MESSAGE, reason, shown, is_start),)

    def _take(self, most: int) -> int:
        """Read at most `most` bytes of the body from here; returns their number."""
        stop = min(self._pos + most, len(self._data))
        count = stop - self._pos
        room = self._body_limit - len(self._body)
        if room > 0 and not self._holed:
            piece = self._data[self._pos : min(stop, self._pos + room)]
            if self._body:
                self._body += piece
            elif piece:
                self._body = bytearray(piece)
        if self._pieces is not None:
            self._pieces += self._data[self._pos : stop]
        self._size += count
        self._pos = stop
        return count

    def _end(self, trailers: Headers = (), *, cut: ExchangeOutcome = COMPLETE) -> End:
        """The message is over. `cut` tells how, where its end was not seen."""
        body = bytes(self._body)
        self._body = b""
        truncated = cut is not COMPLETE or self._holed or self._size > len(body)
        if cut is COMPLETE:
            cut = LOST if self._holed else self._head_outcome
        self._head_outcome = COMPLETE
        if self._malformed_parts:
            cut = replace(cut, malformed=self._malformed_parts)
            self._malformed_parts = ()
        self._open = False
        self._start = None
        self._state = HEAD
        return End(self._ts, (self._seq + self._pos) & MASK, body, self._size, truncated, trailers, cut)

    def _end_abandoned(self) -> Step:
        self._pos = len(self._data)
        end = self._end(cut=UNPARSABLE)
        self._state = FALLING
        return end

    def _malformed(self, reason: str, line: bytes | None = None) -> Step:
        """Pass over the rest of this segment. A message in progress ends here. `line` is the head's first line, where
        that is read already."""
        if line is None:
            line = (bytes(self._partial) or self._data[self._pos :]).partition(b"\n")[0]
        self._pos = len(self._data)
        # 1. A body goes wrong.
        if self._open:
            self._note(reason)
            return self._end_abandoned()
        # 2. A head goes wrong. It is told without what its first line would say.
        self._partial = b""
        return self._unreadable(line)

    def _run(self, step: Step) -> Iterator[Event]:
        """Do the steps after this one until one needs more data."""
        while step is not False:
            if not isinstance(step, bool):
                yield step
            step = _STEPS[self._state](self)


_STEPS: Final[dict[str, Callable[[Any], Step]]] = {
    # Functions, not bound methods: a bound one would make every reader a cycle for the garbage collector to find.
    OUT_OF_STEP: Reader._wait_out_of_step,
    FALLING: Reader._say_lost,
    ABANDONED: Reader._end_abandoned,
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
