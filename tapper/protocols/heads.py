"""The head of an HTTP/1 message: start line, header fields, and what they say about the body (RFC 9112).

A passive reader shows what was on the wire, so it forgives what receivers commonly forgive (bare LF, folded lines,
blanks before a colon, bytes that are not ASCII) and refuses what would make it guess where a message ends.
"""

from __future__ import annotations

import re
from typing import Final

from tapper.protocols.fieldlist import UNFRAMED, FieldList, Framing, Headers, Template, is_plain_word
from tapper.runtime.memo import Memo

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST = r"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([^\x00-\x20\x7f]+) (HTTP/1\.[0-9])\r?"
_STATUS = r"(HTTP/1\.[0-9]) ([1-9][0-9][0-9])(?: ([^\x00-\x08\x0a-\x1f\x7f]*))?\r?"
_REQUEST_LINE = re.compile(_REQUEST)
_STATUS_LINE = re.compile(_STATUS)

# A well-formed field, without its line feed. The quantifiers are possessive: two that can match the same blanks would
# otherwise cost the square of a line's length.
_FIELD = re.compile(rf"({_TOKEN}+)[ \t]*+:[ \t]*+([^\r\n]*+)\r?")

FRAMING_NAMES: Final = frozenset({"content-length", "transfer-encoding"})
"""In lower case."""
_FRAMING_NAME_LENGTHS = frozenset(map(len, FRAMING_NAMES))
_LONGEST_LENGTH = 18  # digits of a Content-Length: more than any body, less than a number that costs time to read


def request_line(line: bytes) -> tuple[str, str, str, bool] | None:
    """(method, target, version, plain) of a request line without its line feed; None where it is none. Plain is a
    target as `RequestHead.plain` has it."""
    # Nearly all are of this kind, and a regular expression costs several times as much.
    method: str | None = "GET"
    start = 4
    if line[:start] != b"GET ":
        word = line.partition(b" ")[0]
        method, start = _METHODS.get(word), len(word) + 1
    stop = len(line) - len(_USUAL_END)
    if method is not None and start < stop and line[stop:] == _USUAL_END:
        target = line[start:stop]
        if is_plain_word(target):
            return method, target.decode("latin-1"), "HTTP/1.1", True
    match = _REQUEST_LINE.fullmatch(line.decode("latin-1"))
    return None if match is None else (match[1], match[2], match[3], False)


_USUAL_END: Final = b" HTTP/1.1\r"


_METHODS: Final = {
    word.encode(): word for word in ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE")
}


def status_line(line: bytes) -> tuple[str, int, str] | None:
    """(version, status, reason) of a status line without its line feed; None where it is none."""
    return _KNOWN_STATUS_LINES[line]


def _status_line(line: bytes) -> tuple[str, int, str] | None:
    match = _STATUS_LINE.fullmatch(line.decode("latin-1"))
    return None if match is None else (match[1], int(match[2]), match[3] or "")


_KNOWN_STATUS_LINES: Final[Memo[bytes, tuple[str, int, str] | None]] = Memo(_status_line, len)  # a service has few


def section(block: bytes) -> FieldList | None:
    """The fields of a head, each line ending in LF, then the empty line, and what they say about the body; None where
    they make no sense."""
    return _KNOWN_SECTIONS[block]


def _section(block: bytes) -> FieldList | None:
    found = fields(block[: len(block) - (2 if block.endswith(b"\r\n") else 1)].decode("latin-1"))
    framed = None if found is None else framing(found)
    return None if found is None or framed is None else FieldList(Template(found), framing=framed, size=len(block))


# Clients repeat themselves: between two requests of one connection often nothing changes but the target.
_KNOWN_SECTIONS: Final[Memo[bytes, FieldList | None]] = Memo(_section, len, most=512, longest=2048)


def fields(block: str) -> Headers | None:
    """The fields of a header or trailer section, each line ending in LF; None where a line is not a field."""
    lines = block.split("\n")
    lines.pop()  # what follows the last line feed: nothing
    known, found = _KNOWN_FIELDS, []
    for line in lines:
        field = known[line]
        if field is None:
            return _fields_slowly(block)
        found.append(field)
    return tuple(found)


def _field(line: str) -> tuple[str, str] | None:
    """The field in a line that is one by itself; None for anything out of the ordinary."""
    match = _FIELD.fullmatch(line)
    return None if match is None or match[2].endswith((" ", "\t")) else (match[1], match[2])


_KNOWN_FIELDS: Final[Memo[str, tuple[str, str] | None]] = Memo(_field, len)  # most lines came before


def _fields_slowly(block: str) -> Headers | None:
    """The same for sections with folded lines (RFC 9112 section 5.2), stray CRs or blanks at a line's end."""
    lines: list[list[str]] = []
    for line in block.split("\n")[:-1]:
        text = line.removesuffix("\r")
        if text[:1] not in {" ", "\t"}:
            lines.append([text.rstrip(" \t")])
        elif lines:
            lines[-1].append(text.strip(" \t"))
        else:
            return None  # a fold of nothing (section 2.2)
    result = []
    for parts in lines:
        name, colon, value = " ".join(parts).partition(":")
        name = name.rstrip(" \t")
        if not colon or not re.fullmatch(_TOKEN, name):
            return None
        result.append((name, value.strip(" \t")))
    return tuple(result)


def framing(headers: Headers) -> Framing | None:
    """What the fields say about the body; None where they contradict each other or are no numbers.

    Several Content-Lengths are one if they are equal (section 6.3). Transfer-Encoding overrides Content-Length.
    """
    # Only two names matter, and their lengths tell nearly all others apart. Most requests have neither.
    candidates = [field for field in headers if len(field[0]) in _FRAMING_NAME_LENGTHS]
    if not candidates:
        return UNFRAMED
    length: int | None = None
    codings: list[str] = []
    for name, value in candidates:
        if name.lower() == "content-length":
            for item in value.split(","):
                text = item.strip(" \t")
                digits = text.lstrip("0") or text[:1]
                if not (digits.isascii() and digits.isdigit()) or len(digits) > _LONGEST_LENGTH:
                    return None
                number = int(digits)
                if length is not None and length != number:
                    return None
                length = number
        elif name.lower() == "transfer-encoding":
            codings += [item.partition(";")[0].strip(" \t").lower() for item in value.split(",")]
    if not codings:
        return Framing(length, chunked=False, coded=False)
    return Framing(None, chunked=codings[-1] == "chunked", coded=True)


# Plausibility, for finding the beginning of a message again. `data` begins at a segment boundary.

_REQUEST_START = re.compile(_REQUEST.encode() + rb"\n")
_LONG_REQUEST_START = re.compile(rb"(?:" + b"|".join(sorted(_METHODS)) + rb") (?:/|https?://)[^\x00-\x20\x7f]*\Z")
_RESPONSE_START = re.compile(_STATUS.encode() + rb"\n")
_TOKEN_START = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}(?: |\Z)")
_VERSION_START = b"HTTP/1."


def begins_request(data: bytes) -> bool:
    """Whether these bytes open with a whole request line, or with one of a known method that is longer than they
    are."""
    return _REQUEST_START.match(data) is not None or _LONG_REQUEST_START.match(data) is not None


def begins_response(data: bytes) -> bool:
    """Whether these bytes open with a whole status line."""
    return _RESPONSE_START.match(data) is not None


def may_become_request(data: bytes) -> bool:
    """Whether bytes without a line feed may be the beginning of a request line."""
    return _TOKEN_START.match(data) is not None


def may_become_response(data: bytes) -> bool:
    """Whether bytes without a line feed may be the beginning of a status line."""
    return data[: len(_VERSION_START)] == _VERSION_START[: len(data)]
