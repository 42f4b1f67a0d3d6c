"""How an exchange ended, as far as the packets of a whole connection tell. Pure.

The words are those of docs/tapper.md. Where a connection has both a FIN and a RST, a tapper may name either.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.conformance.oracle.model import TcpConnection, TrueOutcome

COMPLETE = TrueOutcome("complete")
_OPEN = TrueOutcome("open")
CLIENT, SERVER = "client", "server"
_NO_ERROR, _CANCEL = 0, 8
_ERRORS = (
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
)
"""By their numbers (RFC 9113, section 7)."""


def of_connection(connection: TcpConnection) -> tuple[TrueOutcome, ...]:
    """What may be said of an exchange that had not ended when its connection did."""
    found: list[TrueOutcome] = []
    if connection.reset:
        found.append(TrueOutcome("reset", connection.reset_by))
    ends = [(way.ended_ns, who) for way, who in ((connection.requests, CLIENT), (connection.responses, SERVER))]
    closed = [(time_ns, who) for time_ns, who in ends if time_ns is not None]
    if closed:
        first = min(time_ns for time_ns, _ in closed)
        found += [TrueOutcome("timeout", who) for time_ns, who in closed if time_ns == first]
    if len(closed) < len(ends) and not connection.reset:
        found.append(_OPEN)
    return tuple(found)


def of_stream(
    number: int,
    codes: Iterable[tuple[str, int | None]],
    goaways: Iterable[tuple[str, int, int]],
    connection: TcpConnection,
    *,
    answered: bool,
) -> tuple[TrueOutcome, ...]:
    """What may be said of a stream of HTTP/2 that had not ended on both sides.

    `codes` are (who, error code) of its RST_STREAM frames, None without one; `goaways` are (who, last stream, error
    code). `answered`: its response came to its end.
    """
    found: list[TrueOutcome] = []
    for who, code in codes:
        if code is None:
            continue
        found.append(TrueOutcome("cancelled" if code == _CANCEL else "rst_stream", who, _named(code)))
        if code == _NO_ERROR and who == SERVER and answered:
            found.append(COMPLETE)
    found += [
        TrueOutcome("goaway", who, _named(code))
        for who, last, code in goaways
        if code != _NO_ERROR or (who == SERVER and number > last)
    ]
    return tuple(found) or of_connection(connection)


def _named(code: int) -> str | int:
    return _ERRORS[code] if code < len(_ERRORS) else code
