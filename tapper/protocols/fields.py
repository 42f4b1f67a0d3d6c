"""A field of an HTTP/2 header block, and what the fields of a block say together."""

from __future__ import annotations

from typing import Final, TypeAlias, cast

from hpack.table import HeaderTable

from tapper.protocols.headers import HeaderList, Headers
from tapper.runtime.native import mypyc_attr

OVERHEAD: Final = 32
"""What an entry of a header table is counted for, beside its octets (RFC 7541 section 4.1)."""

# What a field's name means to whoever reads messages. Up to AUTHORITY they are shown among the other fields.
ORDINARY: Final = 0
CONTENT_TYPE: Final = 1
AUTHORITY: Final = 2
METHOD: Final = 3
PATH: Final = 4
SCHEME: Final = 5
STATUS: Final = 6
PSEUDO: Final = 7
UNKNOWN: Final = 8

NO_NAME = "\0"  # no field has this name: NUL is in no token (RFC 9113 section 8.2.1)
_MEANINGS = {
    NO_NAME: UNKNOWN,
    ":method": METHOD,
    ":path": PATH,
    ":scheme": SCHEME,
    ":authority": AUTHORITY,
    ":status": STATUS,
    "content-type": CONTENT_TYPE,
}

Field: TypeAlias = tuple[str, ...]
"""Name and value. Not tuple[str, str], which is the same to Python, because the compiled form would take such a one
apart and make it anew at every step; and it would not be the same object any longer."""


@mypyc_attr(acyclic=True)
class Entry:
    """A field of a table, or of a literal."""

    __slots__ = ("field", "meaning", "size")

    def __init__(self, name: str, value: str) -> None:
        self.field: Field = (name, value)
        self.size = len(name) + len(value) + OVERHEAD
        meaning = _MEANINGS.get(name)
        if meaning is None:
            meaning = PSEUDO if name[:1] == ":" else ORDINARY
        self.meaning = meaning


NO_ENTRY: Final = Entry(NO_NAME, "")
STATIC: Final[list[Entry]] = [
    NO_ENTRY,  # nothing is at 0
    *(Entry(name.decode("latin-1"), value.decode("latin-1")) for name, value in HeaderTable.STATIC_TABLE),
]
"""By index (appendix A)."""
DYNAMIC: Final = 62
"""The index of a table's newest entry."""


_NONE_LISTED: Final = HeaderList()


@mypyc_attr(acyclic=True)
class Fields:
    """What a block said. Nothing changes one once it is made."""

    # Defaults, not a constructor's arguments: few are ever other than these.
    headers: Headers = ()
    """Pseudo-header fields included; bytes as latin-1 characters."""
    shown: Headers = ()
    """`headers` without the pseudo-header fields that have a place of their own in a message."""
    listed: HeaderList = _NONE_LISTED
    """`shown`, with what others make of it, once the block is read."""
    complete: bool = True
    """False where fields are missing from `headers`, because they refer to entries nobody here has seen."""
    octets: int = 0
    """Of names and values."""
    size: int = 0
    """The same with OVERHEAD for each field, also of those that are missing."""
    asks: bool = False
    """Whether there is a pseudo-header field of requests."""
    # Of equal fields the first; None where there is none.
    method: str | None = None
    path: str | None = None
    authority: str | None = None
    status: str | None = None
    content_type: str | None = None

    def note(self, meaning: int, value: str) -> None:
        """A field that is not like the others came, in its turn."""
        if meaning == CONTENT_TYPE:
            if self.content_type is None:
                self.content_type = value
        elif meaning == STATUS:
            if self.status is None:
                self.status = value
        elif meaning != PSEUDO:
            self.asks = True
            if meaning == METHOD:
                if self.method is None:
                    self.method = value
            elif meaning == PATH:
                if self.path is None:
                    self.path = value
            elif meaning == AUTHORITY and self.authority is None:
                self.authority = value

    def add(self, entry: Entry) -> None:
        """Behind these fields one more came."""
        self.size += entry.size
        self.octets += entry.size - OVERHEAD
        meaning = entry.meaning
        if meaning == UNKNOWN:
            self.complete = False
            return
        field = cast(tuple[str, str], entry.field)
        self.headers += (field,)
        if meaning != ORDINARY:
            self.note(meaning, entry.field[1])
        if meaning <= AUTHORITY:
            self.shown += (field,)

    def go_on(self, rest: Fields) -> None:
        """Behind these fields others came."""
        self.headers += rest.headers
        self.shown = self.shown + rest.shown if self.shown else rest.shown  # the same object, if it can be
        self.size += rest.size
        self.octets += rest.octets
        self.complete = self.complete and rest.complete
        self.asks = self.asks or rest.asks
        if self.method is None:
            self.method = rest.method
        if self.path is None:
            self.path = rest.path
        if self.authority is None:
            self.authority = rest.authority
        if self.status is None:
            self.status = rest.status
        if self.content_type is None:
            self.content_type = rest.content_type


UNKNOWN_FIELDS: Final = Fields()
UNKNOWN_FIELDS.complete = False
