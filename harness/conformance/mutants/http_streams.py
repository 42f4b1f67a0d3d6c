"""Broken in how the two directions of a connection go together, and in how much is read of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.conformance.mutants.model import Mutant
from tapper.protocols.exchange import Conversation
from tapper.protocols.http1 import RequestReader, ResponseReader
from tapper.protocols.messages import ResponseHead
from tapper.protocols.reader import Reader
from tapper.protocols.session import Session, Sighting


def _short_heads() -> None:
    for made in (Reader.__init__, RequestReader.__init__, ResponseReader.__init__):
        defaults = made.__kwdefaults__ or {}
        if "head_limit" in defaults:
            defaults["head_limit"] = 8 << 10


SHORT_HEADS = Mutant(
    "short-heads",
    "It has room for a head of 8 KiB.",
    {"HTTP-16": "not at all|answered with"},
    _short_heads,
)


def _report_at_the_end() -> None:
    whole = Session.data
    kept: dict[Session, list[Sighting]] = {}

    def data(self: Session, side: int, chunk: Any) -> list[Sighting]:
        kept.setdefault(self, []).extend(whole(self, side, chunk))
        return []

    Session.data = data  # type: ignore[method-assign]
    for name in ("end", "finish"):
        _bring(name, kept)


def _bring(name: str, kept: dict[Session, list[Sighting]]) -> None:
    whole = getattr(Session, name)

    def brings(self: Session, *arguments: Any) -> list[Sighting]:
        return [*kept.pop(self, []), *whole(self, *arguments)]

    setattr(Session, name, brings)


REPORTS_AT_THE_END = Mutant(
    "reports-at-the-end",
    "It reports the exchanges of a connection when that is closed.",
    {"HTTP-17": "expected 3 requests"},
    _report_at_the_end,
)


def _first_fin() -> None:
    data, end = Session.data, Session.end
    over: set[Session] = set()

    def until_a_fin(self: Session, side: int, chunk: Any) -> Sequence[Sighting]:
        return [] if self in over else data(self, side, chunk)

    def and_no_more(self: Session, side: int) -> list[Sighting]:
        over.add(self)
        return end(self, side)

    Session.data = until_a_fin  # type: ignore[method-assign]
    Session.end = and_no_more  # type: ignore[method-assign]


FIRST_FIN = Mutant(
    "first-fin",
    "It takes a connection for closed when one side is.",
    {"HTTP-12": "answered with|not at all|nothing said about a cut"},
    _first_fin,
)


def _not_before_the_end() -> None:
    match = Conversation._match

    def matched(self: Conversation, response: ResponseHead) -> Any:
        return (None, []) if self._arriving is not None else match(self, response)

    Conversation._match = matched  # type: ignore[method-assign]
    ResponseReader.whole = lambda *_: None  # type: ignore[method-assign]


NOT_BEFORE_THE_END = Mutant(
    "not-before-the-end",
    "It does not expect an answer before the request has ended.",
    {"HTTP-20": "answered with|not at all"},
    _not_before_the_end,
)
