"""The header fields of a message."""

from __future__ import annotations

from typing import Final, TypeAlias

from tapper.runtime.native import mypyc_attr

Headers: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values in the order in which they were sent. Duplicates are kept. Bytes are latin-1 characters."""

FIELD_COST: Final = 170
"""Bytes of memory that a field takes besides its octets: a pair of strings."""
MASK: Final = "[redacted]"
"""Stands for a value that is not shown."""


@mypyc_attr(acyclic=True)
class HeaderList:
    """The header fields of a message. An instance never changes, so several messages may share one.

    Names are compared without regard to case (RFC 9110 section 5.1); a `name` argument is in lower case.
    """

    __slots__ = ("_headers",)

    def __init__(self, headers: Headers = ()) -> None:
        self._headers = headers

    @property
    def headers(self) -> Headers:
        return self._headers

    @property
    def cost(self) -> int:
        """Bytes of memory besides the octets of the fields. Fields that messages share are counted for each."""
        return len(self._headers) * FIELD_COST

    def get(self, name: str) -> str | None:
        """The value of the first field with this name; None where there is none."""
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return None

    def all(self, name: str) -> list[str]:
        """The values of all fields with this name, in order."""
        return [value for key, value in self.headers if key.lower() == name]

    def has_prefix(self, name: str, prefix: str) -> bool:
        """True if the value of a field with this name begins with `prefix`."""
        return any(value.startswith(prefix) and key.lower() == name for key, value in self.headers)

    def masked(self, names: frozenset[str]) -> HeaderList:
        """These fields, with MASK in place of the values of all fields that have one of the names."""
        if not any(key.lower() in names for key, _ in self.headers):
            return self
        return HeaderList(mask_values(self.headers, names))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HeaderList) and self.headers == other.headers

    __hash__ = None  # type: ignore[assignment]


def mask_values(headers: Headers, names: frozenset[str]) -> Headers:
    """The fields, with MASK in place of the values of all fields that have one of the names (in lower case)."""
    return tuple((key, MASK if key.lower() in names else value) for key, value in headers)


def content_encoding(headers: Headers) -> str | None:
    """The values of the Content-Encoding fields, joined as RFC 9110 section 5.3 says; None without such a field."""
    values = [value for name, value in headers if name.lower() == "content-encoding"]
    return ", ".join(values) if values else None
