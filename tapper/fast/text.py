"""Whether bytes can be put between quotes as they are, and are JSON then."""

from __future__ import annotations

from typing import Final

_ESCAPED: Final = frozenset([*range(0x20), *b'"\\', *range(0x7F, 0x100)])
_CHANGED: Final = bytes(char ^ 1 if char in _ESCAPED else char for char in range(0x100))
_CHANGED_WITH_BLANKS: Final = _CHANGED.replace(b" ", b"_")


def is_plain(text: bytes) -> bool:
    """True if the text has only printable ASCII without quotes and backslashes, which JSON does not escape."""
    return text.translate(_CHANGED) == text


def is_plain_word(text: bytes) -> bool:
    """True if moreover it has no blanks."""
    return text.translate(_CHANGED_WITH_BLANKS) == text
