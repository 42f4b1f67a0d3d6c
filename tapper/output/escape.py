"""Making text fit for a terminal: no control characters from the wire, and colour of our own where it helps."""

from __future__ import annotations

import re
from collections.abc import Mapping

_UNSAFE = re.compile(r"[^ -~]")


def escape(text: str) -> str:
    r"""Printable ASCII as it is, anything else as \xNN, \uNNNN or \UNNNNNNNN."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def escape_bytes(data: bytes) -> str:
    """The same for bytes of no known encoding."""
    return escape(data.decode("latin-1").replace("\\", "\\\\"))


def shortened(text: str, longest: int) -> str:
    """At most so many characters, and three dots where there were more."""
    return text if len(text) <= longest else text[:longest] + "..."


def wants_colour(environ: Mapping[str, str], *, terminal: bool) -> bool:
    """Only a terminal that can, and not where NO_COLOR is set to anything (no-color.org)."""
    return terminal and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"


DIM, BOLD = "2", "1"
_BY_CLASS = {1: "36", 2: "32", 3: "36", 4: "33", 5: "1;31"}  # cyan, green, cyan, yellow, bold red


def of_status(status: int) -> str:
    """The colour of a status, by its class; none for what is no class of RFC 9110."""
    return _BY_CLASS.get(status // 100, "0")


def painted(text: str, colour: str) -> str:
    """The text between SGR sequences (ECMA-48 section 8.3.117)."""
    return f"\x1b[{colour}m{text}\x1b[0m"
