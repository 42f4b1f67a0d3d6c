"""A difference becomes a charge: the case whose requirement it breaks, or the cases that come into question. Pure.

The table says which case is about a field. Where something may be wrong or missing only under a condition (HTTP/2,
IPv6, on the way out, or whatever the case at hand does) the charge names that condition's case, too: it is the one to
fail if all charges of the fault name it (`harness.conformance.charges`). So one fault gives one failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.conformance.model import Charge
from harness.conformance.oracle.model import Difference, DifferenceKind, Expected, TrueMessage

INVENTED, DIRECTION, POD, FACTS, OWN_FIELDS = "CAP-14", "CAP-15", "CAP-16", "CAP-17", "HTTP-22"
INBOUND, OUTBOUND, REPEATED, LOOPBACK, IPV6, TIME = "CAP-01", "CAP-02", "CAP-03", "CAP-08", "CAP-10", "CAP-13"
WHOLE, DISORDER, NEIGHBOURS, MTLS, COUNTS = "CAP-04", "CAP-07", "SEC-03", "EDGE-04", "CAP-23"
LENGTH, CHUNKED, PAIRING, NO_BODY, UPGRADE = "HTTP-01", "HTTP-02", "HTTP-03", "HTTP-04", "HTTP-06"
STREAMS, CALLS, LARGE, ENDS, UNTIL_CLOSE = "HTTP-07", "HTTP-09", "HTTP-10", "HTTP-11", "HTTP-12"
SOCKETS, LINES, START_LINE, TRAILERS = "HTTP-13", "HTTP-14", "HTTP-15", "HTTP-19"
PROXY_HEADER, OUTCOME = "HTTP-27", "HTTP-30"
OWN_TLS, SECRETS, SECRETS_IN_STREAMS = "TLS-04", "SEC-04", "SEC-11"

_BY_FIELD = {
    "ts": TIME,
    "duration_s": FACTS,
    "version": FACTS,
    "pod_ip": POD,
    "netns": POD,
    "direction": DIRECTION,
    "mtls": MTLS,
    "counts": COUNTS,
    "src": ENDS,
    "dst": ENDS,
    "method": START_LINE,
    "target": START_LINE,
    "status": PAIRING,
    "request": PAIRING,
    "response": PAIRING,
    "grpc": CALLS,
    "websocket": SOCKETS,
    "packet": WHOLE,
    "plaintext": OWN_TLS,
    "proxied_for": PROXY_HEADER,
    "outcome": OUTCOME,
    "outcome_by": OUTCOME,
    "outcome_code": OUTCOME,
}
_BY_PART = {"headers": OWN_FIELDS, "lines": LINES, "trailers": TRAILERS}
TABLE = frozenset(
    {
        *_BY_FIELD.values(),
        *_BY_PART.values(),
        INVENTED,
        REPEATED,
        NEIGHBOURS,
        INBOUND,
        OUTBOUND,
        LOOPBACK,
        IPV6,
        STREAMS,
    }
    | {LENGTH, CHUNKED, LARGE, NO_BODY, UNTIL_CLOSE, UPGRADE, CALLS, DISORDER, SECRETS, SECRETS_IN_STREAMS}
)
"""Every case that the oracle may charge besides the one at hand."""
SHOULDS = frozenset({LINES, TRAILERS, OUTCOME})
"""The cases of a field whose level is SHOULD: no MUST about the circumstances fails in their place."""
_LARGE = 256 << 10
_SWITCHING = 101
_WITHOUT_BODY = frozenset({_SWITCHING, 204, 304})
"""Statuses whose responses have no body (RFC 9112, section 6.3)."""
_NEARLY_ALL = 0.9
_MOST_CHARGES = 12
_OF_CIRCUMSTANCES = ("LOAD",)
"""Groups whose cases are about what happens under load: what is wrong only there is theirs."""
_OF_RECORDS = frozenset({DifferenceKind.MISSING, DifferenceKind.REPEATED})
"""Kinds of differences that are about a whole record, if they name no field."""


def charges(case: str, differences: Sequence[Difference], shown: int) -> tuple[Charge, ...]:
    """The charges that follow from the differences in one case's trial, each once with the number of its differences.

    `shown` is the number of exchanges that the tapper reported at all. A charge whose difference nearly all of them
    have is told as one of `everywhere`: then the case about the field is meant, whatever the circumstances.
    """
    legs: dict[tuple[str, str], set[int]] = {}
    grouped: dict[tuple[tuple[str, ...], str, str], list[Difference]] = {}
    for each in differences:
        legs.setdefault((each.kind, each.field), set()).add(id(each.leg))
        cases = tuple(dict.fromkeys(_named(case, each)))
        grouped.setdefault((cases, each.kind, each.field), []).append(each)
    found = []
    for (cases, kind, field), several in grouped.items():
        first = several[0]
        more = f" ({len(several)} such)" if len(several) > 1 else ""
        wrong = len(legs[kind, field])
        of_records = not field and kind in _OF_RECORDS
        there_were = shown + wrong if kind == DifferenceKind.MISSING and not field else shown
        found.append(
            Charge(
                cases,
                case,
                f"{first.expected}: {first.what}",
                f"{first.seen}{more}",
                kind if of_records else cases[0],
                everywhere=wrong >= _NEARLY_ALL * max(there_were, 1),
            )
        )
    return tuple(found[:_MOST_CHARGES])


def _named(case: str, difference: Difference) -> Iterable[str]:
    """The cases in question: first the one about the field, then those about the circumstances, the narrowest last."""
    leg, field = difference.leg, difference.field
    if difference.kind is DifferenceKind.INVENTED or leg is None:
        yield _BY_FIELD.get(field, INVENTED)
    elif difference.kind is DifferenceKind.FORBIDDEN:
        yield NEIGHBOURS
    elif not field and difference.kind in _OF_RECORDS:
        if difference.kind is DifferenceKind.REPEATED:
            yield REPEATED
        yield from _place(leg) if difference.kind is DifferenceKind.MISSING else _way(leg)
        yield from _protocol(leg)
        yield case
    else:
        yield from _about(leg, field)
        if case.partition("-")[0] in _OF_CIRCUMSTANCES:
            yield case


def _about(leg: Expected, field: str) -> Iterable[str]:
    """The cases about a wrong field, and about the circumstances in which it may be wrong."""
    about = _field(leg, field)
    yield from about
    if about[0] in SHOULDS or about in ((CALLS,), (SECRETS,), (SECRETS_IN_STREAMS,)):
        return
    yield from _protocol(leg)
    if about[0] == PAIRING:  # where a response is looked for depends on the way and the family; other fields do not
        yield from _way(leg)
    if leg.connection.disordered:
        yield DISORDER


def _field(leg: Expected, field: str) -> tuple[str, ...]:
    """The case about a field; of a body also the one about its end, of a call's trailers also the one about calls."""
    about = _BY_FIELD.get(field)
    if about is not None:
        return (UPGRADE if about == PAIRING and leg.exchange.status == _SWITCHING else about,)
    message, _, part = field.partition(".")
    if message == "grpc":
        return (CALLS,)
    if part == "secrets":
        return (SECRETS_IN_STREAMS if leg.exchange.protocol == "HTTP/2" else SECRETS,)
    if part == "trailers" and leg.exchange.call is not None:
        return TRAILERS, CALLS
    if part not in ("body", "body_size"):
        return (_BY_PART.get(part, INVENTED),)
    exchange = leg.exchange
    if message == "response" and (exchange.method == "HEAD" or exchange.status in _WITHOUT_BODY):
        return LENGTH, NO_BODY
    return LENGTH, *_end_of_body(exchange.request if message == "request" else exchange.response)


def _end_of_body(message: TrueMessage | None) -> Iterable[str]:
    if message is None:
        return
    if len(message.body) >= _LARGE:
        yield LARGE
    if message.chunked:
        yield CHUNKED
    elif message.until_close:
        yield UNTIL_CLOSE


def _place(leg: Expected) -> Iterable[str]:
    """The case about seeing a leg of this kind at all."""
    way = tuple(_way(leg))
    return way or ((LOOPBACK,) if leg.connection.client[0] == leg.connection.server[0] else (INBOUND,))


def _way(leg: Expected) -> Iterable[str]:
    """The cases about the leg's way and family, where these are not the usual ones."""
    if leg.directions == {"outbound"}:
        yield OUTBOUND
    if ":" in leg.connection.client[0]:
        yield IPV6


def _protocol(leg: Expected) -> Iterable[str]:
    if leg.exchange.protocol == "HTTP/2":
        yield STREAMS
    if leg.exchange.call is not None:
        yield CALLS
