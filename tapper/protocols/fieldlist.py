"""Header fields, and with them what others have made of them: it is asked for with every message, and from one message
of a service to the next hardly anything changes."""

from __future__ import annotations

from typing import Final, TypeAlias

from tapper.runtime.native import mypyc_attr

Headers: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values as they came, in their order, duplicates kept; bytes as latin-1 characters."""

_NO_VALUES: Final[list[bytes]] = []
_NO_NUMBERS: Final[list[int]] = []
_ESCAPED: Final = frozenset([*range(0x20), *b'"\\', *range(0x7F, 0x100)])
_OTHERWISE: Final = bytes(char ^ 1 if char in _ESCAPED else char for char in range(0x100))
_OTHERWISE_AND_BLANKS: Final = _OTHERWISE.replace(b" ", b"_")


def is_plain(text: bytes) -> bool:
    """Whether that is nothing but printable ASCII without quotes and backslashes, which needs no escaping."""
    return text.translate(_OTHERWISE) == text


def is_plain_word(text: bytes) -> bool:
    """The same, and no blank in it."""
    return text.translate(_OTHERWISE_AND_BLANKS) == text


@mypyc_attr(acyclic=True)
class Framing:
    """How HTTP/1 delimits a body, as far as the head tells (RFC 9112 section 6)."""

    __slots__ = ("chunked", "coded", "length")

    def __init__(self, length: int | None, *, chunked: bool, coded: bool) -> None:
        self.length = length
        """Content-Length, unless Transfer-Encoding overrides it."""
        self.chunked = chunked
        """Whether `chunked` is the final transfer coding."""
        self.coded = coded
        """Whether there is a Transfer-Encoding at all."""


UNFRAMED: Final = Framing(None, chunked=False, coded=False)


@mypyc_attr(acyclic=True)
class Template:
    """Fields of which some values may vary from head to head, and what others have made of the rest."""

    __slots__ = ("headers", "json", "kept", "kubelets", "redacted", "redactor", "varying")

    def __init__(self, headers: Headers, varying: list[int] = _NO_NUMBERS, kept: list[int] = _NO_NUMBERS) -> None:
        self.headers = headers
        """All of them; the values of those that vary are one head's."""
        self.varying = varying
        """The indices of those, ascending."""
        self.kept = kept
        """Of one that was made without secrets: which of the original's values still vary here."""
        self.json: list[str] | None = None
        """A message up to its body as JSON: what is before, between and behind the values that vary. None while nobody
        has asked."""
        self.kubelets: bool | None = None
        """Whether the kubelet would send such; None while nobody has asked, and where a value decides that varies."""
        self.redactor: object | None = None
        """Who made `redacted`."""
        self.redacted: FieldList | None = None
        """Fields of the same without secrets, and without values; None where there are no secrets."""

    def varies(self, names: frozenset[str]) -> bool:
        """Whether the value of a field with one of these names, in lower case, varies."""
        return any(self.headers[at][0].lower() in names for at in self.varying)


@mypyc_attr(acyclic=True)
class FieldList:
    """The fields of a head."""

    __slots__ = ("_headers", "framing", "size", "template", "values")

    def __init__(
        self, template: Template, values: list[bytes] = _NO_VALUES, framing: Framing = UNFRAMED, size: int = 0
    ) -> None:
        self.template = template
        """What they have in common with others."""
        self.values = values
        """And what not: the values of those that vary."""
        self.framing = framing
        """What they say about the body (HTTP/1)."""
        self.size = size
        """Bytes on the wire, with the empty line (HTTP/1)."""
        self._headers: Headers | None = None

    @property
    def headers(self) -> Headers:
        """Names and values; put together when somebody asks."""
        template = self.template
        if not template.varying:
            return template.headers
        if self._headers is None:
            fields = list(template.headers)
            for number, at in enumerate(template.varying):
                fields[at] = (fields[at][0], self.values[number].decode("latin-1"))
            self._headers = tuple(fields)
        return self._headers

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FieldList) and self.headers == other.headers

    __hash__ = None  # type: ignore[assignment]


def listed(headers: Headers) -> FieldList:
    """These and no others."""
    return FieldList(Template(headers))
