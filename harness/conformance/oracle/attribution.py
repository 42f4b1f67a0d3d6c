"""A difference becomes a charge: the case whose requirement it breaks, or the cases that come into question. Pure.

The table says which case is about a field. Where something may be wrong or missing only under a condition (HTTP/2,
IPv6, on the way out, or whatever the case at hand does) the charge names that condition's case last: it is the one to
fail, unless the field's own case has failed by itself. So one fault gives one failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.conformance.model import Charge
from harness.conformance.oracle.model import Difference, DifferenceKind, Expected

INVENTED, DIRECTION, POD, FACTS, OWN_FIELDS = "CAP-14", "CAP-15", "CAP-16", "CAP-17", "HTTP-22"
INBOUND, OUTBOUND, REPEATED, LOOPBACK, IPV6, TIME = "CAP-01", "CAP-02", "CAP-03", "CAP-08", "CAP-10", "CAP-13"
WHOLE, DISORDER, NEIGHBOURS, MTLS, COUNTS = "CAP-04", "CAP-07", "SEC-03", "EDGE-04", "CAP-23"
LENGTH, CHUNKED, PAIRING, UPGRADE = "HTTP-01", "HTTP-02", "HTTP-03", "HTTP-06"
STREAMS, CALLS, LARGE, ENDS, UNTIL_CLOSE = "HTTP-07", "HTTP-09", "HTTP-10", "HTTP-11", "HTTP-12"
SOCKETS, LINES, START_LINE, TRAILERS = "HTTP-13", "HTTP-14", "HTTP-15", "HTTP-19"
PROXIED, ENDINGS = "HTTP-27", "HTTP-30"
OWN_TLS = "TLS-04"

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
    "proxied_for": PROXIED,
    "outcome": ENDINGS,
    "outcome_by": ENDINGS,
    "outcome_code": ENDINGS,
    "method": START_LINE,
    "target": START_LINE,
    "status": PAIRING,
    "request": PAIRING,
    "response": PAIRING,
    "grpc": CALLS,
    "websocket": SOCKETS,
    "packet": WHOLE,
    "plaintext": OWN_TLS,
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
    | {LENGTH, CHUNKED, LARGE, UNTIL_CLOSE, UPGRADE, CALLS, DISORDER}
)
"""Every case that the oracle may charge besides the one at hand."""
_LARGE = 256 << 10
_SWITCHING = 101
_NEARLY_ALL = 0.9
_MOST_CHARGES = 12
_OF_CIRCUMSTANCES = ("LOAD",)
"""Groups whose cases are about what happens under load: what is lost or wrong there is theirs."""


def charges(case: str, differences: Sequence[Difference], shown: int) -> tuple[Charge, ...]:
    """The charges that follow from the differences in one case's trial, each once with the number of its differences.

    `shown` is the number of exchanges that the tapper reported at all. A charge whose difference nearly all of them
    have is told as one of `everywhere`: then the case about the field is meant, whatever the circumstances.
    """
    legs: dict[tuple[str, str], set[int]] = {}
    for each in differences:
        legs.setdefault((each.kind, each.field), set()).add(id(each.leg))
    grouped: dict[tuple[tuple[str, ...], str, str], list[Difference]] = {}
    for each in differences:
        cases = _cases(case, each)
        grouped.setdefault((cases, each.kind, each.field), []).append(each)
    found = []
    for (cases, kind, field), several in grouped.items():
        first = several[0]
        more = f" ({len(several)} such)" if len(several) > 1 else ""
        found.append(
            Charge(
                cases,
                case,
                f"{first.expected}: {first.what}",
                f"{first.seen}{more}",
                everywhere=len(legs[kind, field]) >= _NEARLY_ALL * max(shown, 1),
            )
        )
    return tuple(found[:_MOST_CHARGES])


def _cases(case: str, difference: Difference) -> tuple[str, ...]:
    """The cases in question, the one about the field first, the one about the condition last; each once."""
    if case.partition("-")[0] in _OF_CIRCUMSTANCES:
        return (case,)
    return tuple(dict.fromkeys(_named(case, difference)))


def _named(case: str, difference: Difference) -> Iterable[str]:
    leg = difference.leg
    if difference.kind is DifferenceKind.INVENTED or leg is None:
        return (_BY_FIELD.get(difference.field, INVENTED),)
    if difference.kind is DifferenceKind.FORBIDDEN:
        return (NEIGHBOURS,)
    if difference.kind is DifferenceKind.REPEATED:
        return REPEATED, case
    if difference.kind is DifferenceKind.MISSING and not difference.field:
        return (*_place(leg), *_protocol(leg), case)
    if leg.connection.disordered:
        return _field(leg, difference.field), DISORDER
    about = _field(leg, difference.field)
    # where an answer is looked for depends on the way and the family; what else is told of an exchange does not
    return (about, *_protocol(leg), *(_condition(leg) if about == PAIRING else ()))


def _field(leg: Expected, field: str) -> str:
    """The case about a field."""
    about = _BY_FIELD.get(field)
    if about is not None:
        return UPGRADE if about == PAIRING and leg.exchange.status == _SWITCHING else about
    whose, _, part = field.partition(".")
    if whose == "grpc":
        return CALLS
    if part not in ("body", "body_size"):
        return _BY_PART.get(part, INVENTED)
    message = leg.exchange.request if whose == "request" else leg.exchange.response
    if message is None:
        return LENGTH
    if message.chunked:
        return CHUNKED
    if message.until_close:
        return UNTIL_CLOSE
    return LARGE if len(message.body) >= _LARGE else LENGTH


def _place(leg: Expected) -> Iterable[str]:
    """The case about seeing a leg of this kind at all."""
    condition = tuple(_condition(leg))
    if condition:
        return condition
    return (LOOPBACK,) if leg.connection.client[0] == leg.connection.server[0] else (INBOUND,)


def _condition(leg: Expected) -> Iterable[str]:
    """The cases about the leg's way and family, where these are not the usual ones."""
    if leg.directions == {"outbound"}:
        yield OUTBOUND
    if ":" in leg.connection.client[0]:
        yield IPV6


def _protocol(leg: Expected) -> Iterable[str]:
    if leg.exchange.call is not None:
        yield CALLS
    elif leg.exchange.protocol == "HTTP/2":
        yield STREAMS
