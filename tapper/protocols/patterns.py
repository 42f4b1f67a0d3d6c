"""What the heads of a connection have in common.

From one message of a service to the next hardly anything changes: an id, a date, a length. A pattern knows the bytes
that stay, and where between them a value varies. A head that fits is read by comparing, and what was made of the fields
that stay (`tapper.protocols.fieldlist.Template`) holds for it as well.

A pattern reads what `tapper.protocols.heads` would read of the same bytes, or declines: a value that it takes neither
begins nor ends with a blank, and ends where its line does, with CR LF.
"""

from __future__ import annotations

from typing import Final

from tapper.protocols import heads
from tapper.protocols.fieldlist import FieldList, Headers, Template
from tapper.runtime.native import mypyc_attr

LONGEST: Final = 2048
"""Bytes of the fields that a pattern is made of: each reader of a connection may keep two."""
_MOST_VARYING: Final = 16
_MOST_KNOWN: Final = 512
_BLANK: Final = 32
_TAB: Final = 9
_LINE_FEED: Final = 10


@mypyc_attr(acyclic=True)
class Pattern:
    """Header sections with the same names, and with the same values but for some."""

    __slots__ = ("_first", "_fixed", "_framing", "_further", "_lengths", "template")

    def __init__(self, runs: list[bytes], template: Template, fields: FieldList) -> None:
        self._first = runs[0]  # up to the first value that varies
        self._further = runs[1:]  # from the end of each such value to the next, or to the end of the empty line
        self._lengths = [0 for _ in self._further]  # of the last such values: the next ones are often as long
        self.template = template
        self._fixed = None if self._further else fields
        # What the body is, where no value that varies has a say in it.
        self._framing = None if template.varies(heads.FRAMING_NAMES) else fields.framing

    def read(self, data: bytes, at: int) -> FieldList | None:
        """The fields that begin there, up to the empty line and with it; None where they are not of this kind."""
        begin, stop = at, at + len(self._first)
        if data[at:stop] != self._first:
            return None
        if self._fixed is not None:
            return self._fixed
        values: list[bytes] = []
        lengths, size = self._lengths, len(data)
        for number in range(len(lengths)):
            run = self._further[number]  # begins with CR LF
            at, end = stop, stop + lengths[number]
            value = data[at:end]
            if end > size or data[end : end + len(run)] != run or _LINE_FEED in value:
                end = data.find(b"\n", at) - 1
                if end < at or data[end : end + len(run)] != run:
                    return None
                lengths[number] = end - at
                value = data[at:end]
            if end > at:
                first, last = value[0], value[-1]
                if first in (_BLANK, _TAB) or last in (_BLANK, _TAB):
                    return None
            values.append(value)
            stop = end + len(run)
        if self._framing is not None:
            return FieldList(self.template, values, self._framing, stop - begin)
        fields = FieldList(self.template, values, size=stop - begin)
        framing = heads.framing(fields.headers)
        if framing is None:
            return None
        fields.framing = framing
        return fields


def learned(fields: FieldList, block: bytes, before: Pattern | None) -> Pattern | None:
    """The pattern of these fields, which `block` is with the empty line; also of what `before` reads, where that has
    the same names. None where a value that varies is not the whole end of its line."""
    headers = fields.headers
    varying = _differing(before.template, headers) if before is not None and alike(before, fields) else []
    runs = _runs(headers, block, varying)
    if runs is None:
        return None
    key = tuple(runs)
    known = _KNOWN.get(key)
    if known is None:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        template = Template(headers, varying) if varying else fields.template
        known = _KNOWN[key] = Pattern(runs, template, fields)
    return known


_KNOWN: Final[dict[tuple[bytes, ...], Pattern]] = {}
"""The connections of one client, or to one server, share theirs."""


def alike(pattern: Pattern | None, fields: FieldList) -> bool:
    """Whether they have the pattern's names."""
    if pattern is None:
        return False
    ours, theirs = pattern.template.headers, fields.headers
    if len(ours) != len(theirs):
        return False
    for at in range(len(ours)):  # noqa: SIM110 - in a loop, as it compiles to one
        if ours[at][0] != theirs[at][0]:
            return False
    return True


def _differing(template: Template, headers: Headers) -> list[int]:
    """The fields whose values vary, or are others here; none where they are too many."""
    varying = template.varying.copy()
    for at in range(len(headers)):
        if at not in varying and headers[at][1] != template.headers[at][1]:
            varying.append(at)
    varying.sort()
    return varying if len(varying) <= _MOST_VARYING else []


def _runs(headers: Headers, block: bytes, varying: list[int]) -> list[bytes] | None:
    """The bytes before, between and behind the values that vary."""
    if not varying:
        return [block]
    lines = block.split(b"\r\n")
    if len(lines) != len(headers) + 2:
        return None
    runs: list[bytes] = []
    run = 0  # where it begins
    start = 0  # where the line does
    for at in range(len(headers)):
        stop = start + len(lines[at])
        if at in varying:
            value = headers[at][1].encode("latin-1")
            if not lines[at].endswith(value):
                return None
            runs.append(block[run : stop - len(value)])
            run = stop
        start = stop + 2
    runs.append(block[run:])
    return runs
