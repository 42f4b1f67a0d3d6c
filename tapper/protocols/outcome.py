"""How an exchange ended, and which parts of its messages are malformed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from tapper.runtime.native import mypyc_attr

MOST_PARTS: Final = 8
"""Malformed parts of one message that are kept."""
LONGEST_LINE: Final = 256
"""Characters of a malformed line that are kept."""


class OutcomeKind(StrEnum):
    """How an exchange ended. The order is that of precedence: of the two messages' kinds, the later one counts."""

    COMPLETE = "complete"
    """Both messages came to their ends."""
    OPEN = "open"
    """It had not ended when the capture ended, or when the tapper gave the connection up."""
    TIMEOUT = "timeout"
    """The connection ended before the exchange did, without a reset."""
    LOST = "lost"
    """Bytes of it were not captured: its request, its response, or a part of them."""
    UNPARSABLE = "unparsable"
    """A message is malformed, or over a limit, so that the rest of it could not be read."""
    GOAWAY = "goaway"
    """GOAWAY said that the server will not answer it (RFC 9113 section 6.8)."""
    RST_STREAM = "rst_stream"
    """RST_STREAM ended it (RFC 9113 section 6.4)."""
    CANCELLED = "cancelled"
    """RST_STREAM ended it with the code CANCEL, as gRPC does with a call that nobody waits for any longer."""
    RESET = "reset"
    """A RST ended its connection."""
    REFUSED = "refused"
    """A RST answered the SYN of its connection, so there is no exchange: only facts have this kind."""


_RANKS: Final = {kind: rank for rank, kind in enumerate(OutcomeKind)}
CLIENT: Final = "client"
SERVER: Final = "server"


@dataclass(frozen=True, slots=True)
class MalformedPart:
    """A part of a message that does not obey the protocol, or is over a limit."""

    message: str
    """`request` or `response`."""
    reason: str
    line: str | None
    """The line, at most LONGEST_LINE characters; bytes are latin-1 characters. None where there is none to show."""
    is_start: bool = False
    """True if `line` is a start line."""


@mypyc_attr(acyclic=True)
@dataclass(frozen=True, slots=True)
class ExchangeOutcome:
    """How an exchange, or one message of it, ended."""

    kind: OutcomeKind
    by: str | None = None
    """CLIENT or SERVER: who ended it early. None where nobody did, or nobody knows."""
    code: str | int | None = None
    """The error code of RST_STREAM or GOAWAY: its name, or its number if it has no name."""
    malformed: tuple[MalformedPart, ...] = ()


COMPLETE: Final = ExchangeOutcome(OutcomeKind.COMPLETE)
"""The outcome of nearly all exchanges. It is compared by identity: this very object means that nothing is malformed."""
OPEN: Final = ExchangeOutcome(OutcomeKind.OPEN)
LOST: Final = ExchangeOutcome(OutcomeKind.LOST)
UNPARSABLE: Final = ExchangeOutcome(OutcomeKind.UNPARSABLE)


def joined(request: ExchangeOutcome, response: ExchangeOutcome) -> ExchangeOutcome:
    """The outcome of an exchange from those of its messages."""
    if request is COMPLETE and response is COMPLETE:
        return COMPLETE
    decisive = max(response, request, key=lambda outcome: (_RANKS[outcome.kind], outcome.by is not None))
    return replace(decisive, malformed=request.malformed + response.malformed)


_ERROR_NAMES: Final = (  # noqa: SIM905 - a list would be a name a line
    "NO_ERROR PROTOCOL_ERROR INTERNAL_ERROR FLOW_CONTROL_ERROR SETTINGS_TIMEOUT STREAM_CLOSED FRAME_SIZE_ERROR "
    "REFUSED_STREAM CANCEL COMPRESSION_ERROR CONNECT_ERROR ENHANCE_YOUR_CALM INADEQUATE_SECURITY HTTP_1_1_REQUIRED"
).split()


def error_name(code: int) -> str | int:
    """The name of an error code of HTTP/2 (RFC 9113 section 7); the number itself if it has none."""
    return _ERROR_NAMES[code] if code < len(_ERROR_NAMES) else code


def role(side: int | None, client: int | None) -> str | None:
    """CLIENT or SERVER; None where the side or the client is not known."""
    if side is None or client is None:
        return None
    return CLIENT if side == client else SERVER
