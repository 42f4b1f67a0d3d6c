"""Makes text safe for a terminal: control characters from captured traffic must not reach it."""

from __future__ import annotations

import re
from collections.abc import Mapping

_UNSAFE = re.compile(r"[^ -~]")


def escape(text: str) -> str:
    r"""The text with every character but printable ASCII as \xNN, \uNNNN or \UNNNNNNNN."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def printable(text: str) -> str:
    """The text for a terminal that shows Unicode. `text` has bytes as latin-1 characters; if they are UTF-8, they are
    decoded. Characters that cannot be seen, such as controls and marks of direction, are escaped as by `escape`."""
    try:
        text = text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return escape(text)
    return visible(text)


def visible(text: str) -> str:
    """Unicode text with escapes in the place of characters that cannot be seen, lone surrogates included."""
    return text if text.isprintable() else "".join(char if char.isprintable() else escape(char) for char in text)


def escape_bytes(data: bytes) -> str:
    """The same for bytes of unknown encoding. Backslashes are doubled."""
    return escape(data.decode("latin-1").replace("\\", "\\\\"))


def shortened(text: str, longest: int) -> str:
    """The text, cut after `longest` characters; three dots stand for the rest."""
    return text if len(text) <= longest else text[:longest] + "..."


def wants_colour(environ: Mapping[str, str], *, terminal: bool) -> bool:
    """True for a terminal that can show colours, unless NO_COLOR is set (no-color.org)."""
    return terminal and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"
