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


class FieldMask:
    """Says what is shown of the values of fields. `tapper.output.redaction` has the only one."""

    def hides(self, name: str) -> bool:
        """Whether nothing of the values of fields with this name is shown."""
        raise NotImplementedError

    def scans(self, name: str) -> bool:
        """Whether what is shown of a field with this name depends on its value."""
        raise NotImplementedError

    def shown(self, name: str, value: str) -> str:
        """What is shown of a field's value. To mask it again changes nothing."""
        raise NotImplementedError


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
        for key, value in self.headers:  # noqa: SIM110 - this is asked of every exchange, and a generator costs twice as much
            if value.startswith(prefix) and key.lower() == name:
                return True
        return False

    def masked(self, mask: FieldMask) -> HeaderList:
        """These fields, with what the mask shows of their values."""
        shown = mask_values(self.headers, mask)
        return self if shown == self.headers else HeaderList(shown)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HeaderList) and self.headers == other.headers

    __hash__ = None  # type: ignore[assignment]


NO_FIELDS: Final = HeaderList()


def mask_values(headers: Headers, mask: FieldMask) -> Headers:
    """The fields, with what the mask shows of their values."""
    return tuple([(key, mask.shown(key, value)) for key, value in headers])


def content_encoding(headers: Headers) -> str | None:
    """The values of the Content-Encoding fields, joined as RFC 9110 section 5.3 says; None without such a field."""
    values = [value for name, value in headers if name.lower() == "content-encoding"]
    return ", ".join(values) if values else None
