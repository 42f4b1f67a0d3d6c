"""The head of an HTTP/1 message: start line, header fields, and what they say about the body (RFC 9112).

A passive reader shows what was on the wire, so it forgives what receivers commonly forgive (bare LF, folded lines,
blanks before a colon, bytes that are not ASCII) and refuses what would make it guess where a message ends.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from tapper.memo import Memo

Headers: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values as they came, in their order, duplicates kept; bytes as latin-1 characters."""

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST = r"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([^\x00-\x20\x7f]+) (HTTP/1\.[0-9])\r?"
_STATUS = r"(HTTP/1\.[0-9]) ([1-9][0-9][0-9])(?: ([^\x00-\x08\x0a-\x1f\x7f]*))?\r?"
_REQUEST_LINE = re.compile(_REQUEST)
_STATUS_LINE = re.compile(_STATUS)

# A well-formed field, without its line feed. The quantifiers are possessive: two that can match the same blanks would
# otherwise cost the square of a line's length.
_FIELD = re.compile(rf"({_TOKEN}+)[ \t]*+:[ \t]*+([^\r\n]*+)\r?")

_FRAMING_NAME_LENGTHS = frozenset({len("content-length"), len("transfer-encoding")})
_LONGEST_LENGTH = 18  # digits of a Content-Length: more than any body, less than a number that costs time to read


@dataclass(slots=True)
class Framing:
    """How the body is delimited, as far as the head tells (RFC 9112 section 6)."""

    length: int | None
    """Content-Length, unless Transfer-Encoding overrides it."""
    chunked: bool
    """Whether `chunked` is the final transfer coding."""
    coded: bool
    """Whether there is a Transfer-Encoding at all."""

    def __init__(self, length: int | None, *, chunked: bool, coded: bool) -> None:
        self.length = length
        self.chunked = chunked
        self.coded = coded


_UNFRAMED: Final = Framing(None, chunked=False, coded=False)


class FieldList:
    """The fields of a head, and with them what others have made of them: it is asked for with every message, and the
    same fields come again and again."""

    __slots__ = ("bare", "headers", "json", "kubelets", "redacted", "redactor")

    def __init__(self, headers: Headers) -> None:
        self.headers = headers
        self.json: str | None = None
        """The fields as JSON; None while nobody has asked. With them comes `bare`."""
        self.bare = ""
        """A message that has nothing but these fields, as JSON."""
        self.kubelets: bool | None = None
        """Whether the kubelet would send them."""
        self.redactor: object | None = None
        """Who made `redacted`."""
        self.redacted: FieldList | None = None
        """The same without secrets; None where they have none."""


class Section:
    """The fields of a head, and what they say about the body."""

    __slots__ = ("fields", "framing")

    def __init__(self, headers: Headers, framing: Framing) -> None:
        self.fields = FieldList(headers)
        self.framing = framing


def request_line(line: bytes) -> tuple[str, str, str] | None:
    """(method, target, version) of a request line without its line feed; None where it is none."""
    text = line.decode("latin-1")
    words = text.split(" ")
    # Nearly all are of this kind, and a regular expression costs several times as much.
    if len(words) == 3 and words[2] == "HTTP/1.1\r":
        method, target, _ = words
        if method in _METHODS and target and target.isprintable():  # the regular expression takes more
            return method, target, "HTTP/1.1"
    match = _REQUEST_LINE.fullmatch(text)
    return None if match is None else (match[1], match[2], match[3])


_METHODS: Final = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"})


def status_line(line: bytes) -> tuple[str, int, str] | None:
    """(version, status, reason) of a status line without its line feed; None where it is none."""
    return _KNOWN_STATUS_LINES[line]


def _status_line(line: bytes) -> tuple[str, int, str] | None:
    match = _STATUS_LINE.fullmatch(line.decode("latin-1"))
    return None if match is None else (match[1], int(match[2]), match[3] or "")


_KNOWN_STATUS_LINES: Final[Memo[bytes, tuple[str, int, str] | None]] = Memo(_status_line, len)  # a service has few


def section(block: bytes) -> Section | None:
    """The fields of a head, each line ending in LF, and what they say about the body; None where they make no sense."""
    return _KNOWN_SECTIONS[block]


def _section(block: bytes) -> Section | None:
    found = fields(block.decode("latin-1"))
    framed = None if found is None else framing(found)
    return None if found is None or framed is None else Section(found, framed)


# Clients repeat themselves: between two requests of one connection often nothing changes but the target.
_KNOWN_SECTIONS: Final[Memo[bytes, Section | None]] = Memo(_section, len, most=512, longest=2048)


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
        return _UNFRAMED
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
_LONG_REQUEST_START = re.compile(
    rb"(?:" + "|".join(sorted(_METHODS)).encode() + rb") (?:/|https?://)[^\x00-\x20\x7f]*\Z"
)
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
