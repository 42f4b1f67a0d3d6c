"""Making text fit for a terminal: no control characters from the wire, and where colour helps."""

from __future__ import annotations

import re
from collections.abc import Mapping

_UNSAFE = re.compile(r"[^ -~]")


def escape(text: str) -> str:
    r"""Printable ASCII as it is, anything else as \xNN, \uNNNN or \UNNNNNNNN."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def printable(text: str) -> str:
    """What a terminal can show, as it is: UTF-8 in a text of latin-1 characters as what it stands for. Controls, marks
    of direction and whatever else is not for the eye, as `escape` has it."""
    try:
        text = text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return escape(text)
    return "".join(char if char.isprintable() else escape(char) for char in text)


def escape_bytes(data: bytes) -> str:
    """The same for bytes of no known encoding."""
    return escape(data.decode("latin-1").replace("\\", "\\\\"))


def shortened(text: str, longest: int) -> str:
    """At most so many characters, and three dots where there were more."""
    return text if len(text) <= longest else text[:longest] + "..."


def wants_colour(environ: Mapping[str, str], *, terminal: bool) -> bool:
    """Only a terminal that can, and not where NO_COLOR is set to anything (no-color.org)."""
    return terminal and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"
