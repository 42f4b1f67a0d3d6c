"""HTTP/1 messages of a whole connection (RFC 9112). Pure.

Strict: what a lenient reader could take for something else makes all that follows uncertain, and is told as a flaw.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.conformance.oracle.model import FieldLines, TrueMessage

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([^\s\x00-\x1f\x7f]+) (HTTP/1\.[01])")
_STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([1-9]\d\d)(?: ([^\r\n]*))?")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[ \t]*(.*?)[ \t]*", re.DOTALL)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")
_LENGTH = re.compile(rb"\d{1,18}")
_LONGEST_HEAD = 256 << 10
_MOST_CHUNKS = 1 << 20

STARTS = re.compile(_TOKEN + rb" [^\s\x00-\x1f\x7f]+ HTTP/1\.[01]\r\n")
"""What the first bytes of an HTTP/1 request look like."""
_NEXT = re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH) [^\s\x00-\x1f\x7f]+ HTTP/1\.[01]\r\n")
"""The same with a method that is known (RFC 9110, section 9.1; RFC 5789): the end of a body is easily a token, too."""


class UnclearBytes(Exception):
    """Bytes that RFC 9112 gives no single meaning; the message says what."""


@dataclass(frozen=True, slots=True)
class Head:
    """A start line and its fields: of a request method, target and version, of a response version, status, reason."""

    start: tuple[bytes, ...]
    fields: FieldLines
    begin: int
    end: int
    """Where the body begins."""

    def values(self, name: bytes) -> list[bytes]:
        """Of all fields of this name, in order; `name` in lower case."""
        return [value for key, value in self.fields if key.lower() == name]


@dataclass(frozen=True, slots=True)
class Read:
    """A message, and the bytes that it takes up: from `head.begin` to before `end`."""

    head: Head
    message: TrueMessage
    end: int
    refused: bool = False
    """Whether its body was not sent, because it expected a 100 (Continue) that did not come (RFC 9110, section 10.1.1).
    Told by what follows its head, which begins like another request."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A request and its final response, where both were read; and whether the connection changed its protocol there."""

    request: Read | None
    response: Read | None
    switched: bool = False


@dataclass(frozen=True, slots=True)
class Http1Messages:
    """All of a connection. `flaw` tells why it was read no further."""

    pairs: Sequence[Pair]
    flaw: str = ""
    switched_at: tuple[int, int] | None = None
    """Where another protocol begins, in the client's and the server's stream."""


def read(asked: bytes, answered: bytes, *, closed: bool) -> Http1Messages:
    """Read both streams, and pair requests and responses in their order. `closed`: the server's stream has ended."""
    flaw, switched_at = "", None
    requests, pairs = [], []
    try:
        for request in _requests(asked):
            requests.append(request)
    except UnclearBytes as unclear:
        flaw = f"the client's bytes are unclear: {unclear}"
    at = number = 0
    continued = False
    try:
        while at < len(answered):
            known = requests[number] if number < len(requests) else None
            response = _response(answered, at, known, closed=closed)
            if response is None:
                break
            at = response.end
            status = int(response.head.start[1])
            if 100 <= status < 200 and status != 101:
                continued = continued or status == 100
                continue
            if known is not None and known.refused and (continued or status < 300):
                raise UnclearBytes("a request whose body begins like a request")
            continued = False
            switched = _switches(known, status)
            pairs.append(Pair(known, response, switched))
            number += 1
            if switched:
                switched_at = (len(asked) if known is None else known.end, response.end)
                requests = requests[:number]
                flaw = "" if flaw.startswith("the client's") else flaw  # what follows is no HTTP
                break
    except UnclearBytes as unclear:
        flaw = flaw or f"the server's bytes are unclear: {unclear}"
    pairs += [Pair(request, None) for request in requests[number:]]
    return Http1Messages(pairs, flaw, switched_at)


def _switches(request: Read | None, status: int) -> bool:
    connect = request is not None and request.head.start[0] == b"CONNECT"
    return status == 101 or (connect and 200 <= status < 300)


def _requests(data: bytes) -> Iterator[Read]:
    """Generates them; raises `UnclearBytes` behind the last clear one."""
    at = 0
    while at < len(data):
        while data.startswith(b"\r\n", at):  # section 2.2
            at += 2
        head = _head(data, at, _REQUEST_LINE)
        if head is None:
            cut = _cut_head(data, at, _REQUEST_LINE)
            if cut is not None:
                yield Read(cut, TrueMessage(cut.fields, complete=False), len(data))
            return
        chunked, length = _framing(head)
        expects = any(value.lower() == b"100-continue" for value in head.values(b"expect"))
        refused = expects and (chunked or bool(length)) and _NEXT.match(data, head.end) is not None
        if refused:
            message, at = TrueMessage(head.fields, complete=False), head.end
        elif chunked:
            message, at = _chunked(data, head)
        else:
            message, at = _of_length(data, head, length or 0)
        yield Read(head, message, at, refused)
        if head.start[0] == b"CONNECT":
            return


def _response(data: bytes, at: int, request: Read | None, *, closed: bool) -> Read | None:
    """The response that begins at `at`; None where its status line is not whole. Section 6.3 says how long it is."""
    head = _head(data, at, _STATUS_LINE)
    if head is None:
        cut = _cut_head(data, at, _STATUS_LINE)
        return None if cut is None else Read(cut, TrueMessage(cut.fields, complete=False), len(data))
    status = int(head.start[1])
    method = b"" if request is None else request.head.start[0]
    if method == b"HEAD" or 100 <= status < 200 or status in (204, 304) or (method == b"CONNECT" and status < 300):
        return Read(head, TrueMessage(head.fields), head.end)
    if request is None and not (head.values(b"content-length") or head.values(b"transfer-encoding")):
        raise UnclearBytes("a response without a request and without a length")
    chunked, length = _framing(head)
    if chunked:
        message, end = _chunked(data, head)
    elif length is not None:
        message, end = _of_length(data, head, length)
    else:
        message, end = TrueMessage(head.fields, data[head.end :], complete=closed, until_close=True), len(data)
    return Read(head, message, end)


def _head(data: bytes, at: int, line: re.Pattern[bytes]) -> Head | None:
    """Start line and fields; None where the stream ends before they do."""
    end = data.find(b"\r\n\r\n", at, at + _LONGEST_HEAD)
    if end < 0:
        if len(data) - at >= _LONGEST_HEAD:
            raise UnclearBytes("a head that does not end")
        first, found, _ = data[at : at + _LONGEST_HEAD].partition(b"\r\n")
        if found and not line.fullmatch(first):
            raise UnclearBytes(f"a start line {first[:60]!r}")
        return None
    first, *lines = data[at:end].split(b"\r\n")
    start = line.fullmatch(first)
    if start is None:
        raise UnclearBytes(f"a start line {first[:60]!r}")
    return Head(tuple(start.groups()), _fields(lines), at, end + 4)


def _cut_head(data: bytes, at: int, line: re.Pattern[bytes]) -> Head | None:
    """The whole lines of a head at the end of the stream, which lacks its end; None where there are none."""
    first, *lines = data[at:].split(b"\r\n")[:-1] or [b""]
    start = line.fullmatch(first)
    return None if start is None else Head(tuple(start.groups()), _fields(lines), at, len(data))


def _fields(lines: Sequence[bytes]) -> FieldLines:
    found = []
    for each in lines:
        field = _FIELD.fullmatch(each)
        if field is None or b"\0" in each or b"\n" in each or b"\r" in each:
            raise UnclearBytes(f"a field line {each[:60]!r}")
        found.append((field[1], field[2]))
    return tuple(found)


def _framing(head: Head) -> tuple[bool, int | None]:
    """Whether a message is chunked, and else its Content-Length. Raises `UnclearBytes` where readers may differ."""
    codings = [coding.strip().lower() for value in head.values(b"transfer-encoding") for coding in value.split(b",")]
    lengths = {part.strip() for value in head.values(b"content-length") for part in value.split(b",")}
    if codings:
        if codings != [b"chunked"] or lengths or b"HTTP/1.0" in head.start:
            raise UnclearBytes("transfer codings other than chunked alone, or with a Content-Length, or in HTTP/1.0")
        return True, None
    if not lengths:
        return False, None
    if len(lengths) > 1 or not _LENGTH.fullmatch(next(iter(lengths))):
        raise UnclearBytes("a Content-Length that is no number, or is two")
    if len(head.values(b"content-length")) > 1:
        raise UnclearBytes("a Content-Length in two lines")
    return False, int(next(iter(lengths)))


def _of_length(data: bytes, head: Head, length: int) -> tuple[TrueMessage, int]:
    body = data[head.end : head.end + length]
    return TrueMessage(head.fields, body, complete=len(body) == length), head.end + len(body)


def _chunked(data: bytes, head: Head) -> tuple[TrueMessage, int]:
    """Section 7.1: chunks until one of size zero, then trailers."""
    parts: list[bytes] = []
    at = head.end
    for _ in range(_MOST_CHUNKS):
        line = data.find(b"\r\n", at)
        if line < 0:
            if not re.fullmatch(rb"[0-9A-Fa-f]{0,15}(?:[ \t]*;[^\n]*|[ \t]*)\r?", data[at:]):
                raise UnclearBytes(f"a chunk size {data[at : at + 20]!r}")
            break
        size = _CHUNK_SIZE.fullmatch(data, at, line)
        if size is None:
            raise UnclearBytes(f"a chunk size {data[at : min(line, at + 20)]!r}")
        length, start = int(size[1], 16), line + 2
        if length == 0:
            if data.startswith(b"\r\n", start):
                return TrueMessage(head.fields, b"".join(parts), chunked=True), start + 2
            end = data.find(b"\r\n\r\n", start)
            if end < 0:
                break
            trailers = _fields(data[start:end].split(b"\r\n"))
            return TrueMessage(head.fields, b"".join(parts), trailers, chunked=True), end + 4
        parts.append(data[start : start + length])
        at = start + length + 2
        if at > len(data):
            break
        if data[at - 2 : at] != b"\r\n":
            raise UnclearBytes("a chunk that is longer than its size")
    return TrueMessage(head.fields, b"".join(parts), complete=False, chunked=True), len(data)
