"""Reads header sections by comparing them with those of the messages before.

Replaces `tapper.protocols.heads.section`. From one message of a service to the next only an id, a date or a length
changes. A Pattern has the bytes that stay the same, and knows at which places between them a value varies. A section
that fits is read by comparing bytes, and shares the HeaderTemplate of the pattern with its caches. `tapper.fast.http1`
says what was measured.

A pattern reads what `heads.section` reads of the same bytes, or nothing: a varying value neither begins nor ends with a
blank, and CRLF follows it.
"""

from __future__ import annotations

from typing import Final

from tapper.fast.headers import HeaderTemplate, TemplateList
from tapper.protocols import heads
from tapper.protocols.headers import Headers
from tapper.runtime.memo import Memo
from tapper.runtime.native import mypyc_attr

LONGEST: Final = 2048
"""Octets of a section of which a pattern is made."""
_MOST_FIELDS: Final = 64
"""Fields of such a section. A pattern of 64 fields takes 20 KB of memory."""
_MOST_VARYING: Final = 16
_MOST_SHARED: Final = 1024
_BLANK: Final = 32
_TAB: Final = 9
_LINE_FEED: Final = 10
_END_OF_HEAD: Final = b"\r\n\r\n"


@mypyc_attr(acyclic=True)
class Pattern:
    """Header sections with the same names, and with the same values of all fields but some."""

    __slots__ = ("_first", "_fixed", "_framing", "_lengths", "_runs", "key", "slot", "template")

    def __init__(self, runs: list[bytes], template: HeaderTemplate, fields: TemplateList) -> None:
        self.key = tuple(runs)
        self.slot = 0  # its place in _SHELF
        self._first = runs[0]  # the bytes before the first varying value
        self._runs = runs[1:]  # the bytes between two varying values, and those after the last, with the empty line
        self._lengths = [0 for _ in self._runs]  # of the last varying values: the next ones are often as long
        self.template = template
        self._fixed = None if self._runs else fields
        # What the fields say about the body, if that does not depend on a varying value.
        self._framing = None if template.varies(heads.FRAMING_NAMES) else fields.framing

    def read(self, data: bytes, at: int) -> TemplateList | None:
        """The fields of the section that begins at this offset; None if it does not fit."""
        begin, stop = at, at + len(self._first)
        if data[at:stop] != self._first:
            return None
        if self._fixed is not None:
            return self._fixed
        values: list[bytes] = []
        lengths, size = self._lengths, len(data)
        for number in range(len(lengths)):
            run = self._runs[number]  # begins with CRLF
            at, end = stop, stop + lengths[number]
            value = data[at:end]
            if end > size or data[end : end + len(run)] != run or _LINE_FEED in value:
                end = data.find(b"\n", at) - 1
                if end < at or data[end : end + len(run)] != run:
                    return None
                lengths[number] = end - at
                value = data[at:end]
            if end > at and (value[0] in (_BLANK, _TAB) or value[-1] in (_BLANK, _TAB)):
                return None
            values.append(value)
            stop = end + len(run)
        if self._framing is not None:
            return TemplateList(self.template, values, self._framing, stop - begin)
        fields = TemplateList(self.template, values, size=stop - begin)
        framing = heads.framing(fields.headers)
        if framing is None:
            return None
        fields.framing = framing
        return fields


def learned(fields: TemplateList, block: bytes, before: Pattern | None) -> Pattern | None:
    """The pattern of these fields, whose section is `block`.

    If `before` has the same names, it reads what `before` reads as well: fields with differing values become varying
    ones. None if anything but CRLF follows a varying value.
    """
    headers = fields.headers
    varying = _differing(before.template, headers) if before is not None and alike(before, fields) else []
    runs = _runs(headers, block, varying)
    if runs is None:
        return None
    key = tuple(runs)
    pattern = _SHARED.get(key)
    if pattern is None:
        template = HeaderTemplate(headers, varying) if varying else fields.template
        pattern = Pattern(runs, template, fields)
        if len(_SHELF) <= _MOST_SHARED:
            _SHELF.append(None)
            pattern.slot = len(_SHELF) - 1
        else:
            pattern.slot = _OLDEST[0]
            _OLDEST[0] = pattern.slot % _MOST_SHARED + 1
            replaced = _SHELF[pattern.slot]
            if replaced is not None:
                del _SHARED[replaced.key]
        _SHELF[pattern.slot] = _SHARED[key] = pattern
    return pattern


_SHARED: Final[dict[tuple[bytes, ...], Pattern]] = {}
"""All connections share their patterns: those of one client, or to one server, mostly have the same."""
_SHELF: Final[list[Pattern | None]] = [None]
"""The same patterns by slot; slot 0 stays empty. Readers keep slots and no patterns, so no reader keeps memory. A slot
may get another pattern; a pattern is compared with the bytes in any case."""
_OLDEST: Final = [1]
"""The slot that is used next, once all are taken."""


def alike(pattern: Pattern | None, fields: TemplateList) -> bool:
    """True if the fields have the pattern's names."""
    if pattern is None:
        return False
    ours, theirs = pattern.template.headers, fields.headers
    if len(ours) != len(theirs):
        return False
    for at in range(len(ours)):  # noqa: SIM110 - mypyc compiles a loop, and makes a generator of `all`
        if ours[at][0] != theirs[at][0]:
            return False
    return True


def _differing(template: HeaderTemplate, headers: Headers) -> list[int]:
    """The indexes of the fields whose values vary in the template or differ from it; empty if they are too many."""
    varying = template.varying.copy()
    for at in range(len(headers)):
        if at not in varying and headers[at][1] != template.headers[at][1]:
            varying.append(at)
    varying.sort()
    return varying if len(varying) <= _MOST_VARYING else []


def _runs(headers: Headers, block: bytes, varying: list[int]) -> list[bytes] | None:
    """The bytes before, between and after the varying values; None if anything but CRLF follows one."""
    if not varying:
        return [block]
    lines = block.split(b"\r\n")
    if len(lines) != len(headers) + 2:
        return None
    runs: list[bytes] = []
    run = line = 0  # where both begin
    for at in range(len(headers)):
        stop = line + len(lines[at])
        if at in varying:
            value = headers[at][1].encode("latin-1")
            if not lines[at].endswith(value):
                return None
            runs.append(block[run : stop - len(value)])
            run = stop
        line = stop + 2
    runs.append(block[run:])
    return runs


def _section(block: bytes) -> TemplateList | None:
    """As `tapper.protocols.heads.section`, with the framing in the list."""
    section = heads.section(block)
    return section and TemplateList(HeaderTemplate(section[0].headers), framing=section[1], size=len(block))


def _size(block: bytes) -> int:
    """As Memo wants it: too long if there are too many fields."""
    return len(block) if block.count(b"\n") <= _MOST_FIELDS else LONGEST + 1


_SECTIONS: Final[Memo[bytes, TemplateList | None]] = Memo(_section, _size, most=512, longest=LONGEST)
"""Clients repeat themselves: often two requests of a connection differ in nothing but their target."""


class HeadCache:
    """The slots of the two patterns of a reader, the last used first."""

    __slots__ = ("_head_limit", "_latest", "_older", "second_line")

    def __init__(self, head_limit: int) -> None:
        self._head_limit = head_limit
        self._latest = 0
        self._older = 0
        self.second_line = 1
        """Where the second line of the last head began."""

    def find(self, data: bytes) -> TemplateList | None:
        """The fields of the head with which the data begins; None if it is not complete or not in the common form."""
        # 1. Guess that the start line is as long as the last one. A wrong guess is harmless: the line then contains an
        #    LF, and is rejected as a start line.
        second = self.second_line
        if second > len(data) or data[second - 1] != _LINE_FEED:
            self.second_line = second = data.find(b"\n") + 1
            if not second:
                return None
        # 2. Compare the fields with those before; if they do not fit, parse them.
        fields = self._compare(data, second)
        if fields is None:
            stop = data.find(_END_OF_HEAD, second - 2) + 4
            if stop < 4 or stop > self._head_limit:
                return None
            fields = self._parse(data[second:stop])
        return None if fields is None or second + fields.size > self._head_limit else fields

    def section(self, block: bytes) -> TemplateList | None:
        """The fields of a section with its empty line; None if it is malformed."""
        return self._compare(block, 0) or self._parse(block)

    def _compare(self, data: bytes, at: int) -> TemplateList | None:
        """The fields that begin at this offset; None if neither pattern fits."""
        latest, older = _SHELF[self._latest], _SHELF[self._older]
        fields = None if latest is None else latest.read(data, at)
        if fields is None and older is not None:
            fields = older.read(data, at)
            if fields is not None:
                self._latest, self._older = self._older, self._latest
        return fields

    def _parse(self, block: bytes) -> TemplateList | None:
        """The same without the patterns. Learns a pattern of the fields."""
        fields = _SECTIONS[block]
        if fields is not None and _size(block) <= LONGEST:
            if not alike(_SHELF[self._latest], fields):
                self._latest, self._older = self._older, self._latest
            pattern = learned(fields, block, _SHELF[self._latest])
            self._latest = 0 if pattern is None else pattern.slot
        return fields
