"""The head of an HTTP/1 message: start line, header fields, and what they say about the body (RFC 9112).

The tapper reads what others have sent and received. So it accepts what receivers commonly accept (bare LF, folded
lines, blanks before a colon, bytes that are not ASCII). It refuses what would make it guess where a message ends.

Receivers differ about the rest. An invalid field line is left out, as nginx does with requests (its directive
ignore_invalid_headers); Go and Envoy refuse such a message. A start line is divided at its blanks (RFC 9112 sections 3
and 4), so a target may have blanks; servers answer that with 400. `lenient_section`, `lenient_request_line` and
`lenient_status_line` read such heads, and are asked only after the strict functions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tapper.protocols.headers import HeaderList, Headers

TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
"""A character of a token: a method or a field name (RFC 9110 section 5.6.2), as a regular expression."""
METHODS: Final = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE")

_REQUEST = rf"({TOKEN}{{1,32}}) ([^\x00-\x20\x7f]+) (HTTP/1\.[0-9])\r?"
_STATUS = r"(HTTP/1\.[0-9]) ([1-9][0-9][0-9])(?: ([^\x00-\x08\x0a-\x1f\x7f]*))?\r?"
_REQUEST_LINE = re.compile(_REQUEST)
_STATUS_LINE = re.compile(_STATUS)
_LENIENT_REQUEST_LINE = re.compile(
    rf"({TOKEN}{{1,32}})[ \t]+([^ \t](?:[^\n]*[^ \t\n])?)[ \t]+(HTTP/[0-9]{{1,3}}(?:\.[0-9]{{1,3}})?)[ \t]*\r?",
    re.IGNORECASE,
)
_LENIENT_STATUS_LINE = re.compile(r"(HTTP/[0-9]\.[0-9])[ \t]+([1-9][0-9][0-9])(?:[ \t]+([^\n]*?))?[ \t]*\r?")
_NAME = re.compile(rf"{TOKEN}+")
_WORD = r"[^ \t\r\n]++"
_FIELD_LINE = re.compile(rf"^({TOKEN}++)[ \t]*+:[ \t]*+((?:{_WORD}(?:[ \t]++{_WORD})*+)?+)[ \t]*+\r?\n", re.MULTILINE)
"""A valid field line that no other line continues: name, and value without the blanks around it."""
_BLANKS = " \t"
_MOST_DIGITS = 18  # of a Content-Length: more than any body has, few enough to be converted quickly


@dataclass(frozen=True, slots=True)
class Framing:
    """How a head delimits its body (RFC 9112 section 6.3)."""

    length: int | None
    """Octets, as Content-Length says; None without Content-Length, and where Transfer-Encoding overrides it."""
    chunked: bool = False
    """True if `chunked` is the final transfer coding."""
    coded: bool = False
    """True if there is a Transfer-Encoding."""


NO_BODY: Final = Framing(None)
"""Neither Content-Length nor Transfer-Encoding."""
FRAMING_NAMES: Final = frozenset({"content-length", "transfer-encoding"})
"""The fields on which `framing` depends, in lower case."""
_FRAMING_LINE = re.compile(rb"(?:content-length|transfer-encoding)[ \t]*:", re.IGNORECASE)
LONGEST_START: Final = 8192
"""Octets of the longest start line that is kept. nginx's limit is the same."""
_LINE_BEGINNING: Final = 256
_START_BEGINNING, _CUT, _START_END = 4096, b"...", 32


def request_line(line: bytes) -> tuple[str, str, str] | None:
    """(method, target, version) of a request line without its LF; None if it is not a request line."""
    match = _REQUEST_LINE.fullmatch(line.decode("latin-1"))
    return None if match is None else (match[1], match[2], match[3])


def status_line(line: bytes) -> tuple[str, int, str] | None:
    """(version, status, reason) of a status line without its LF; None if it is not a status line."""
    match = _STATUS_LINE.fullmatch(line.decode("latin-1"))
    return None if match is None else (match[1], int(match[2]), match[3] or "")


def lenient_request_line(line: bytes) -> tuple[str, str, str] | None:
    """As `request_line`, for a line that is divided by any blanks. The target may contain blanks and any octet; the
    version may be in lower case, and have one number."""
    match = _LENIENT_REQUEST_LINE.fullmatch(line.decode("latin-1"))
    return None if match is None or match[1] == "PRI" else (match[1], match[2], match[3])


def lenient_status_line(line: bytes) -> tuple[str, int, str] | None:
    """As `status_line`, for a line that is divided by any blanks; the reason may contain any octet."""
    match = _LENIENT_STATUS_LINE.fullmatch(line.decode("latin-1"))
    return None if match is None else (match[1], int(match[2]), match[3] or "")


def section(block: bytes) -> tuple[HeaderList, Framing] | None:
    """The fields of a header section, which ends with an empty line, and what they say about the body; None if either
    is malformed."""
    headers, framed, invalid = lenient_section(block)
    return None if invalid or framed is None else (headers, framed)


def lenient_section(block: bytes) -> tuple[HeaderList, Framing | None, list[tuple[str, str]]]:
    """The valid fields of a header section, which ends with an empty line; what they say about the body, None if that
    is contradictory; and of each invalid line a reason and the line."""
    headers, invalid = lenient_fields(block.removesuffix(b"\n").removesuffix(b"\r"))
    return HeaderList(headers), framing(headers), invalid


def lenient_fields(block: bytes) -> tuple[Headers, list[tuple[str, str]]]:
    """The valid fields of a header or trailer section, and of each invalid line a reason and the line. Each line ends
    in LF, and there is no empty line at the end. A line that begins with a blank continues the field before it (section
    5.2)."""
    # 1. Nearly always each line is a valid field.
    section = block.decode("latin-1")
    headers = _FIELD_LINE.findall(section)
    if len(headers) == section.count("\n"):
        return tuple(headers), []
    # 2. Join the lines of each field. Lists of parts, since joining one by one would copy a long field repeatedly.
    unfolded: list[list[str]] = []
    invalid: list[tuple[str, str]] = []
    for line in section.split("\n")[:-1]:
        text = line.removesuffix("\r")
        if text[:1] not in {" ", "\t"}:
            unfolded.append([text.rstrip(_BLANKS)])
        elif unfolded:
            unfolded[-1].append(text.strip(_BLANKS))
        else:  # it would continue the start line (section 2.2)
            invalid.append(("a field line that begins with a blank", text))
    # 3. Divide each field at its first colon.
    headers = []
    for parts in unfolded:
        line = " ".join(parts)
        name, colon, value = line.partition(":")
        name = name.rstrip(_BLANKS)
        if colon and _NAME.fullmatch(name):
            headers.append((name, value.strip(_BLANKS)))
        else:
            invalid.append(("an invalid field name" if colon else "a field line without a colon", line))
    return tuple(headers), invalid


def framing(headers: Headers) -> Framing | None:
    """What the fields say about the body; None if they contradict each other or a Content-Length is not a number.

    Equal Content-Lengths count as one (section 6.3). Transfer-Encoding overrides Content-Length. Empty elements of a
    list do not count (RFC 9110 section 5.6.1.2), nor does the coding `identity`, which RFC 2616 had.
    """
    length: int | None = None
    codings: list[str] = []
    for name, value in headers:
        lower = name.lower()
        if lower == "transfer-encoding":
            codings += [coding.partition(";")[0].strip(_BLANKS).lower() for coding in value.split(",")]
        elif lower == "content-length":
            for item in value.strip(" \t,").split(","):
                if not item.strip(_BLANKS) and value.strip(_BLANKS):
                    continue
                number = _length(item.strip(_BLANKS))
                if number is None or length not in (None, number):
                    return None
                length = number
    codings = [coding for coding in codings if coding not in ("", "identity")]
    if codings:
        return Framing(None, chunked=codings[-1] == "chunked", coded=True)
    return Framing(length)


def _length(text: str) -> int | None:
    digits = text.lstrip("0") or text[:1]
    if not (digits.isascii() and digits.isdigit()) or len(digits) > _MOST_DIGITS:
        return None
    return int(digits)


def shorten(head: bytes) -> tuple[bytes, bytes, bool]:
    """Divide a head that is too long to be kept, complete or not: (a head of its start line, its lines that `framing`
    depends on, and the beginning of its last line; its other lines, which are complete; whether more than the beginning
    of its last line has come). Of a long start line the middle is replaced by three points, so that its end still tells
    the version."""
    start, feed, rest = head.partition(b"\n")
    if len(start) > _START_BEGINNING + len(_CUT) + _START_END:
        start = start[:_START_BEGINNING] + _CUT + start[-_START_END:]
    *lines, last = rest.split(b"\n")
    kept: list[bytes] = []
    others: list[bytes] = []
    for line in lines:
        (kept if line in (b"", b"\r") or _FRAMING_LINE.match(line) else others).append(line)
    short = start + feed + b"\n".join([*kept, last[:_LINE_BEGINNING]])
    return short, b"".join(line + b"\n" for line in others), len(last) > _LINE_BEGINNING


# The functions below find the beginning of a message after a loss. `data` begins where a TCP segment begins.

_REQUEST_START = re.compile(_REQUEST.encode() + rb"\n")
_LONG_REQUEST_START = re.compile(rf"(?:{'|'.join(METHODS)}) (?:/|https?://)[^\x00-\x20\x7f]*\Z".encode())
_RESPONSE_START = re.compile(_STATUS.encode() + rb"\n")
_TOKEN_START = re.compile(rf"{TOKEN}{{1,32}}(?: |\Z)".encode())
_VERSION_START = b"HTTP/1."


def begins_request(data: bytes) -> bool:
    """True if the data starts with a complete request line, or is the start of one that has a known method."""
    return _REQUEST_START.match(data) is not None or _LONG_REQUEST_START.match(data) is not None


def begins_response(data: bytes) -> bool:
    """True if the data starts with a complete status line."""
    return _RESPONSE_START.match(data) is not None


def may_become_request(data: bytes) -> bool:
    """True if data without an LF may be the start of a request line."""
    return _TOKEN_START.match(data) is not None


def may_become_response(data: bytes) -> bool:
    """True if data without an LF may be the start of a status line."""
    return data[: len(_VERSION_START)] == _VERSION_START[: len(data)]
