"""Texts from a tapper, made harmless for a page: nothing invisible, no markup, no reordering. Pure."""

from __future__ import annotations

import re
import unicodedata

# controls, format characters (bidirectional overrides, zero-width ones), surrogates, unassigned, line separators
_UNSEEN = {"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"}
_KEPT = "\n\t"
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
# emphasis, code, brackets; an underscore within a word means nothing
_ESCAPED = re.compile(r"[\\`*\[\]~]|(?<!\w)_|_(?!\w)")
# characters that a backslash does not escape: HTML, cells, mentions, references, formulas, and addresses
_ENTITIES = re.compile(r"[<&|$@#]|(?<=:)//|(?<=www)\.", re.IGNORECASE)


def visible(text: str) -> str:
    r"""The text with invisible characters as \xNN, \uNNNN or \UNNNNNNNN. All of it is legal in XML 1.0."""
    return "".join(
        character if character in _KEPT or unicodedata.category(character) not in _UNSEEN else _escaped(character)
        for character in text
    )


def markdown(text: str) -> str:
    """The text in one line of Markdown without effect: no HTML, links, mentions or table cells.

    Text between backticks becomes a code span.
    """
    return "".join(code(part) if is_code else _plain(part) for part, is_code in spans(" ".join(visible(text).split())))


def spans(text: str) -> list[tuple[str, bool]]:
    """The parts of a text, and whether each stood between backticks."""
    return [(part, bool(number % 2)) for number, part in enumerate(_CODE.split(text)) if part]


def code(text: str) -> str:
    """The text as a code span of Markdown, which fits into a table's cell as well."""
    line = " ".join(visible(text).split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}".replace("|", r"\|")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _plain(text: str) -> str:
    escaped = _ESCAPED.sub(lambda match: "\\" + match[0], text)
    return _ENTITIES.sub(lambda match: "".join(f"&#{ord(character)};" for character in match[0]), escaped)
