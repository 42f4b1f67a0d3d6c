"""Header fields that share their caches: from one message of a service to the next only a few values change.

Replaces `tapper.protocols.headers.HeaderList`. A HeaderTemplate holds the fields that stay the same, and what was
derived from them: their JSON, their masked form, and the answer to `has_prefix`. A TemplateList holds the template and
one message's values of the other fields. The pairs of names and values are made when somebody asks for them.
`tapper.fast.http1` and `tapper.fast.ndjson` say what was measured: their gains rest on these caches.
"""

from __future__ import annotations

from typing import Final

from tapper.protocols.headers import FieldMask, HeaderList, Headers, mask_values
from tapper.protocols.heads import NO_BODY, Framing
from tapper.runtime.native import mypyc_attr

_NO_VALUES: Final[list[bytes]] = []
_NO_INDEXES: Final[list[int]] = []


@mypyc_attr(acyclic=True)
class HeaderTemplate:
    """Fields of which some values vary from message to message."""

    __slots__ = ("answer", "headers", "json", "kept", "mask", "masked", "name", "prefix", "scanned", "varying")

    def __init__(self, headers: Headers, varying: list[int] = _NO_INDEXES, kept: list[int] = _NO_INDEXES) -> None:
        self.headers = headers
        """All fields. The values of the varying fields are those of one message."""
        self.varying = varying
        """The indexes of the varying fields, ascending."""
        self.kept = kept
        self.scanned = _NO_INDEXES
        """Only in a masked template: `kept` has the numbers of the original's varying values that are not hidden, and
        `scanned` the numbers of its own varying values that have to be masked one by one."""
        self.json: list[str] | None = None
        """A cache of `tapper.fast.ndjson`: the JSON before, between and after the varying values."""
        self.mask: FieldMask | None = None
        self.masked: TemplateList | None = None
        """What `mask` shows of the fields, without their varying values; None where it changes nothing."""
        self.name = self.prefix = ""
        self.answer: bool | None = None
        """The answer to the last question to `has_prefix`; None without one, or if it depends on a varying value."""

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

    def masked(self, mask: FieldMask) -> HeaderList:
        template = self.template
        masked = template.masked if template.mask is mask else _masked(template, mask)
        if masked is None:
            return self
        shown = masked.template
        values = [self.values[number] for number in shown.kept]
        for number in shown.scanned:
            name = shown.headers[shown.varying[number]][0]
            values[number] = mask.shown(name, values[number].decode("latin-1")).encode("latin-1")
        return TemplateList(shown, values) if values else masked


def _masked(template: HeaderTemplate, mask: FieldMask) -> TemplateList | None:
    """The template's `masked` for this mask."""
    names = [template.headers[index][0] for index in template.varying]
    kept = [number for number, name in enumerate(names) if not mask.hides(name)]
    shown = HeaderTemplate(mask_values(template.headers, mask), [template.varying[number] for number in kept], kept)
    shown.scanned = [at for at, number in enumerate(kept) if mask.scans(names[number])]
    is_same = len(kept) == len(names) and not shown.scanned and shown.headers == template.headers
    template.mask, template.masked = mask, None if is_same else TemplateList(shown)
    return template.masked


def fixed(headers: Headers) -> TemplateList:
    """These fields, of which no value varies."""
    return TemplateList(HeaderTemplate(headers))
