"""Header fields that share their caches: from one message of a service to the next only a few values change.

Replaces `tapper.protocols.headers.HeaderList`. A HeaderTemplate holds the fields that stay the same, and what was
derived from them: their JSON, their masked form, and the answer to `has_prefix`. A TemplateList holds the template and
one message's values of the other fields. The pairs of names and values are made when somebody asks for them.
`tapper.fast.http1` and `tapper.fast.ndjson` say what was measured: their gains rest on these caches.
"""

from __future__ import annotations

from typing import Final

from tapper.protocols.headers import HeaderList, Headers, mask_values
from tapper.protocols.heads import NO_BODY, Framing
from tapper.runtime.native import mypyc_attr

_NO_VALUES: Final[list[bytes]] = []
_NO_INDEXES: Final[list[int]] = []


@mypyc_attr(acyclic=True)
class HeaderTemplate:
    """Fields of which some values vary from message to message."""

    __slots__ = ("answer", "headers", "json", "kept", "mask_names", "masked", "name", "prefix", "varying")

    def __init__(self, headers: Headers, varying: list[int] = _NO_INDEXES, kept: list[int] = _NO_INDEXES) -> None:
        self.headers = headers
        """All fields. The values of the varying fields are those of one message."""
        self.varying = varying
        """The indexes of the varying fields, ascending."""
        self.kept = kept
        """Only in a masked template: the numbers of the original's varying values that are not masked."""
        self.json: list[str] | None = None
        """A cache of `tapper.fast.ndjson`: the JSON before, between and after the varying values."""
        self.mask_names: frozenset[str] | None = None
        """The names for which `masked` was made."""
        self.masked: TemplateList | None = None
        """The masked fields without their varying values; None where no field has one of the names."""
        self.name = self.prefix = ""
        """The last question to `has_prefix`."""
        self.answer: bool | None = None
        """The answer to it; None where no question was asked, or where the answer depends on a varying value."""

    def varies(self, names: frozenset[str]) -> bool:
        """True if a varying field has one of these names, in lower case."""
        return any(self.headers[index][0].lower() in names for index in self.varying)


@mypyc_attr(acyclic=True)
class TemplateList(HeaderList):
    """A HeaderList made of a template and the values of its varying fields."""

    __slots__ = ("framing", "is_made", "size", "template", "values")

    def __init__(
        self, template: HeaderTemplate, values: list[bytes] = _NO_VALUES, framing: Framing = NO_BODY, size: int = 0
    ) -> None:
        # The constructor of HeaderList is not called: it would cost as much again as this one.
        self._headers = template.headers
        self.is_made = not template.varying
        """True if the pairs in `_headers` are those of this message, no longer those of the template."""
        self.template = template
        self.values = values
        """The values of the varying fields, in the order of `template.varying`."""
        self.framing = framing
        """What the fields say about the body (HTTP/1)."""
        self.size = size
        """Octets of the fields as they were sent, with the empty line (HTTP/1)."""

    @property
    def headers(self) -> Headers:
        if not self.is_made:
            fields = list(self.template.headers)
            for number, index in enumerate(self.template.varying):
                fields[index] = (fields[index][0], self.values[number].decode("latin-1"))
            self._headers = tuple(fields)
            self.is_made = True
        return self._headers

    def has_prefix(self, name: str, prefix: str) -> bool:
        template = self.template
        if template.answer is not None and template.prefix is prefix and template.name is name:
            return template.answer
        answer = super().has_prefix(name, prefix)
        if not template.varies(frozenset({name})):
            template.name, template.prefix, template.answer = name, prefix, answer
        return answer

    def masked(self, names: frozenset[str]) -> HeaderList:
        template = self.template
        masked = template.masked if template.mask_names is names else _masked(template, names)
        if masked is None:
            return self
        if not masked.template.varying:
            return masked
        return TemplateList(masked.template, [self.values[number] for number in masked.template.kept])


def _masked(template: HeaderTemplate, names: frozenset[str]) -> TemplateList | None:
    """The template's `masked` for these names."""
    template.mask_names, template.masked = names, None
    secret = [index for index, (name, _) in enumerate(template.headers) if name.lower() in names]
    if secret:
        kept = [number for number, index in enumerate(template.varying) if index not in secret]
        varying = [template.varying[number] for number in kept]
        shown = HeaderTemplate(mask_values(template.headers, names), varying, kept)
        shown.mask_names = names  # and its `masked` is None: there is nothing left to mask
        template.masked = TemplateList(shown)
    return template.masked


def fixed(headers: Headers) -> TemplateList:
    """These fields, of which no value varies."""
    return TemplateList(HeaderTemplate(headers))
