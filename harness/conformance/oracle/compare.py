"""An expected record and a reported one: every field that is told has to be true. Pure.

A field that is left out is no difference here, but where the contract wants it of whoever claims a feature.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address

from harness.adapters.contract import Feature
from harness.adapters.observed import ReportedExchange, ReportedMessage, in_words
from harness.conformance.oracle import expectation, hidden, outcomes
from harness.conformance.oracle.model import Expected, FieldLines, TrueExchange, TrueMessage

_SHOWN = 60
_ENDPOINT = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([\d.]+)):(\d+)")
_VERSION = re.compile(r"(?:http/?|h)?(\d)(?:\.(\d))?c?", re.IGNORECASE)
_UNPRINTABLE = re.compile(rb"[^\x20-\x7e]+")
_OWN_VIEW = frozenset({"lost", "open", "unparsable"})
_ENDS = _OWN_VIEW | {"complete", "reset", "cancelled", "rst_stream", "goaway", "timeout"}
_WAYS = frozenset({expectation.INBOUND, expectation.OUTBOUND})


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """One field that says something else. `missing`: that is left out although it is owed."""

    field: str
    expected: str
    seen: str
    missing: bool = False


def differences(
    leg: Expected, seen: ReportedExchange, claims: frozenset[Feature], tolerance_s: float
) -> Iterator[FieldDifference]:
    """Every field of a record that does not agree with what happened, in the contract's order."""
    yield from _times(leg, seen, tolerance_s)
    yield from place(leg, seen, claims)
    yield from _start_lines(leg.exchange, seen, claims)
    for whose, true, told in (
        ("request", leg.exchange.request, seen.request),
        ("response", leg.exchange.response, seen.response),
    ):
        if told is not None and true is not None:
            shown_secrets = list(_secrets(whose, true, told)) if Feature.REDACTION in claims else []
            yield from shown_secrets or _message(whose, true, told)
            yield from _derived(whose, true, seen.record.get(whose))
        elif told is not None and (told.headers or told.body):
            yield FieldDifference(whose, f"null: there was no {whose}", _shown(told.headers))
    yield from _call(leg.exchange, seen, claims)
    yield from _ended(leg.exchange, seen)


def _times(leg: Expected, seen: ReportedExchange, tolerance_s: float) -> Iterator[FieldDifference]:
    exchange = leg.exchange
    yield from time(seen, exchange.first_ns, exchange.first_ns, tolerance_s)
    lasted = seen.record.get("duration_s")
    if isinstance(lasted, int | float) and not isinstance(lasted, bool):
        # without a response the tapper may take the connection's end for the exchange's
        least_ns = exchange.response_last_ns or exchange.first_ns
        most_ns = exchange.last_ns if exchange.response_last_ns is not None else leg.connection.last_ns
        least, most = ((time_ns - exchange.first_ns) / 1e9 for time_ns in (least_ns, most_ns))
        if not max(least - tolerance_s, min(least, 0.0)) <= lasted <= most + tolerance_s:
            right = f"of {most:.3f} s" + ("" if exchange.response_last_ns else " at most, without a response")
            yield FieldDifference("duration_s", right, f"{lasted:.3f} s")


def time(seen: ReportedExchange, first_ns: int, last_ns: int, tolerance_s: float) -> Iterator[FieldDifference]:
    """The time of a record, which has to lie between two moments (nanoseconds since 1970), or near them."""
    if seen.time is None:
        return
    first, last = first_ns / 1e9, last_ns / 1e9
    off = min(seen.time - first, 0.0) or max(seen.time - last, 0.0)
    if not abs(off) <= tolerance_s:
        told = f"{seen.time:.3f}, {abs(off):.1f} s too {'late' if off > 0 else 'early'}"
        yield FieldDifference("ts", f"within {tolerance_s:g} s of {first:.3f}", told)


def place(leg: Expected, seen: ReportedExchange, claims: frozenset[Feature]) -> Iterator[FieldDifference]:
    """Pod, network namespace, direction and the two ends of the connection."""
    addresses = " or ".join(sorted(leg.addresses))
    if seen.pod_ip is not None:
        if same_address(seen.pod_ip) not in leg.addresses:
            yield FieldDifference("pod_ip", f"{addresses}, the pod's address", in_words(seen.pod_ip))
    elif Feature.POD_IDENTITY in claims and "interface" not in seen.record:
        yield FieldDifference("pod_ip", f"{addresses}, the pod's address", "none", missing=True)
    netns = seen.record.get("netns")
    if leg.netns is not None and isinstance(netns, int) and netns != leg.netns:
        yield FieldDifference("netns", f"{leg.netns}, the pod's network namespace", str(netns))
    claimed = Feature.DIRECTION in claims
    if seen.direction not in leg.directions and (
        seen.direction in _WAYS or (claimed and seen.direction != expectation.NODE)
    ):
        ways = " or ".join(sorted(leg.directions & _WAYS or leg.directions))
        yield FieldDifference("direction", ways, seen.direction or "none", missing=seen.direction is None)
    proxied_for = seen.record.get("proxied_for")
    if isinstance(proxied_for, str) and same_end(proxied_for) != leg.connection.proxied_for:
        named = leg.connection.proxied_for
        client = "none" if named is None else expectation.in_words(named)
        yield FieldDifference("proxied_for", f"{client}, the client that a PROXY header names", in_words(proxied_for))
    for name, told, right in (
        ("src", seen.src, frozenset({leg.connection.client, leg.connection.source})),
        ("dst", seen.dst, expectation.sidecar_ends(leg.connection)),
    ):
        if told is not None and same_end(told) not in right:
            whom = " or ".join(sorted(map(expectation.in_words, right)))
            yield FieldDifference(name, f"{whom}, as the packets have it", in_words(told))


def _ended(exchange: TrueExchange, seen: ReportedExchange) -> Iterator[FieldDifference]:
    """How the exchange ended, whoever ended it, and the error code. What the tapper could not see or read is its own
    word for it: that is wrong only where it shows the whole of an exchange that was complete."""
    told = seen.record.get("outcome")
    if told not in _ENDS or not exchange.outcomes:
        return
    whole = all(message is not None and not message.truncated for message in (seen.request, seen.response))
    if told in _OWN_VIEW and not (whole and exchange.outcomes == (outcomes.COMPLETE,)):
        return
    possible = [each for each in exchange.outcomes if each.kind == told]
    if not possible:
        kinds = " or ".join(dict.fromkeys(each.kind for each in exchange.outcomes))
        yield FieldDifference("outcome", kinds, str(told))
        return
    for name, rights in (
        ("outcome_by", [each.by for each in possible]),
        ("outcome_code", [each.code for each in possible]),
    ):
        value = seen.record.get(name)
        if value is not None and None not in rights and str(value) not in map(str, rights):
            yield FieldDifference(name, " or ".join(map(str, rights)), in_words(str(value)))


def _start_lines(
    exchange: TrueExchange, seen: ReportedExchange, claims: frozenset[Feature]
) -> Iterator[FieldDifference]:
    decodes = bool(claims & {Feature.HTTP1, Feature.HTTP2})
    for name, true, told in (
        ("method", exchange.method, seen.method),
        ("target", exchange.target, seen.target),
        ("status", exchange.status, seen.status),
    ):
        if name == "target" and not decodes:
            continue  # it may be put together from target and Host
        if told is None:
            if decodes and true is not None and (name != "status" or exchange.response is not None):
                owed = ", that of its own answer" if name == "status" else ""
                yield FieldDifference(name, f"{in_words(str(true))}{owed}", "none", missing=True)
        elif true is None:
            if told != 0:
                yield FieldDifference(name, f"no {name}: there was none", in_words(str(told)))
        elif name == "target" and Feature.REDACTION in claims and hidden.same_url(str(true), str(told)):
            continue
        elif not (
            same_text(true.encode("latin-1"), told) if isinstance(true, str) and isinstance(told, str) else true == told
        ):
            yield FieldDifference(name, in_words(str(true)), in_words(str(told)))
    version = seen.record.get("version")
    if isinstance(version, str) and not exchange.upgraded and (match := _VERSION.fullmatch(version)):
        right = exchange.protocol.removeprefix("HTTP/")
        if f"{match[1]}.{match[2] or 0}" != (right if "." in right else f"{right}.0"):
            yield FieldDifference("version", exchange.protocol, version)


def _message(whose: str, true: TrueMessage, told: ReportedMessage) -> Iterator[FieldDifference]:
    if told.headers or told.gives_headers:
        yield from _fields(whose, true, told)
    if _owes_trailers(true, told) and not _same_lines(true.trailers, told.trailers):
        yield FieldDifference(f"{whose}.trailers", _shown(_lines(true.trailers)), _shown(told.trailers))
    yield from _body(whose, true, told)


def _owes_trailers(true: TrueMessage, told: ReportedMessage) -> bool:
    """Whether the trailers that a record gives have to be those of the message: an empty list says that there were
    none. They may stand among the header fields instead, and belong to a whole message only."""
    if told.trailers:
        return True
    names = {name.lower() for name, _ in told.headers}
    among_headers = any(name.decode("latin-1").lower() in names for name, _ in true.trailers)
    return told.gives_trailers and true.complete and not told.truncated and not among_headers


def _body(whose: str, true: TrueMessage, told: ReportedMessage) -> Iterator[FieldDifference]:
    if not told.gives_body:
        return
    owed = f"of {len(true.body)} bytes"
    if not true.body.startswith(told.body):
        at = next(
            (at for at, (one, other) in enumerate(zip(told.body, true.body, strict=False)) if one != other),
            min(len(told.body), len(true.body)),
        )
        yield FieldDifference(f"{whose}.body", owed, f"{len(told.body)} bytes, others from byte {at} on")
    elif len(told.body) < len(true.body) and true.complete and not told.truncated:
        yield FieldDifference(
            f"{whose}.body", f"{owed}, or said to be cut", f"{len(told.body)} bytes, and truncated false"
        )
    elif told.truncated and told.body and told.body == true.body and true.complete and not true.until_close:
        yield FieldDifference(f"{whose}.body", "with truncated false, since it is whole", "true")


def _derived(whose: str, true: TrueMessage, message: object) -> Iterator[FieldDifference]:
    """What a record says of a message besides its fields and its body."""
    told = message if isinstance(message, dict) else {}
    size, coding = told.get("body_size"), told.get("content_encoding")
    if isinstance(size, int) and true.complete and size != len(true.body):
        yield FieldDifference(f"{whose}.body_size", f"{len(true.body)} bytes", f"{size} bytes")
    if isinstance(coding, str):
        right = b", ".join(value for name, value in true.fields if name.lower() == b"content-encoding")
        if not same_text(right, coding):
            yield FieldDifference(
                f"{whose}.headers", f"with the content coding {in_words(right.decode('latin-1')) or 'none'}", coding
            )


def _secrets(whose: str, true: TrueMessage, told: ReportedMessage) -> Iterator[FieldDifference]:
    """Credentials that a tapper shows, in whole or in part, although it claims to hide them."""
    known = _by_name((*true.fields, *true.trailers))
    for key, value in (*told.headers, *told.trailers):
        name = key.lower()
        if name not in hidden.CREDENTIALS or not value:
            continue
        sent = [each.decode("latin-1") for each in known.get(name, [])]
        if sent and not any(hidden.hides(name, each, value) for each in sent):
            yield FieldDifference(f"{whose}.secrets", f"with {name} hidden", in_words(value, _SHOWN))


def _fields(whose: str, true: TrueMessage, told: ReportedMessage) -> Iterator[FieldDifference]:
    """Header fields: every line of each name, in order, with its value. Names may be written in any case.

    HTTP/2's pseudo-header fields may be among them or not, `:authority` also as `host`; so may trailers; and cookies
    that HTTP/2 has cut may be one (RFC 9113, section 8.2.3).
    """
    # 1. What was sent, and what is told, by name.
    known, late = _by_name(true.fields), {} if told.trailers else _by_name(true.trailers)
    given = [(key.lower(), value) for key, value in told.headers if not key.startswith(":")]
    for key, value in told.headers:
        if key.lower() == ":authority" and not _same_value("host", true.authority, value):
            yield _line(whose, ":authority", [true.authority] if true.authority else [], [value])
            return
    if true.authority and "host" not in known:
        host = ("host", true.authority.decode("latin-1"))
        given = [line for line in given if line != host]
    values: dict[str, list[str]] = {}
    for key, value in given:
        values.setdefault(key, []).append(value)
    # 2. Each name that is told has all its lines, with their values.
    for key, several in values.items():
        right = known.get(key, [])
        if not _same_values(key, right, several) and not _same_values(key, right + late.get(key, []), several):
            yield _line(whose, key, right, several)
            return
    # 3. No name is left out, and the order is that of the message.
    by_line = f"{whose}.lines"
    left_out = [key for key in known if key not in values]
    if left_out:
        yield FieldDifference(by_line, f"with {in_words(left_out[0])}", "without it")
        return
    order = [key for key, _ in _lines(true.fields) if key != "cookie"]
    told_order = [key for key, _ in given if key != "cookie" and key in known]
    if order != told_order[: len(order)]:
        yield FieldDifference(by_line, f"in their order, {_shown_names(order)}", _shown_names(told_order))


def _line(whose: str, key: str, right: Sequence[bytes], told: Sequence[str]) -> FieldDifference:
    """The lines of one name that are not as they were: others, or the same ones joined, cut apart or left out."""
    if not right:
        said = f"without {in_words(key)}, which the {whose} does not have"
        return FieldDifference(f"{whose}.headers", said, _shown_values(told))
    sent = [_readable(value) for value in right]
    parts = {part.strip() for value in sent for part in value.split(",")}
    given = [part.strip() for value in told for part in value.split(",")]
    rearranged = all(part in parts or (hidden.may_be_hidden(key) and hidden.is_mask(part)) for part in given)
    field = f"{whose}.lines" if rearranged else f"{whose}.headers"
    return FieldDifference(field, f"with {in_words(key)} in {_shown_values(sent)}", _shown_values(told))


def _by_name(fields: FieldLines) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for key, value in fields:
        found.setdefault(key.decode("latin-1").lower(), []).append(value)
    return found


def _same_values(key: str, right: Sequence[bytes], told: Sequence[str]) -> bool:
    if hidden.may_be_hidden(key) and told and all(map(hidden.is_mask, told)):
        return len(told) == len(right) or (key == "cookie" and len(told) == 1)
    if key == "cookie" and len(told) == 1:
        right = [b"; ".join(right)]
    return len(right) == len(told) and all(_same_value(key, *pair) for pair in zip(right, told, strict=True))


def _same_value(key: str, true: bytes, told: str) -> bool:
    return same_text(true, told) or hidden.same_field(key, true.decode("latin-1"), told)


def _same_lines(true: FieldLines, told: Sequence[tuple[str, str]]) -> bool:
    return len(true) == len(told) and all(
        key.decode("latin-1").lower() == name.lower() and _same_value(name.lower(), value, given)
        for (key, value), (name, given) in zip(true, told, strict=True)
    )


def _call(exchange: TrueExchange, seen: ReportedExchange, claims: frozenset[Feature]) -> Iterator[FieldDifference]:
    """Compare the field `grpc`: service, method, status, message and counts of messages."""
    told, call = seen.record.get("grpc"), exchange.call
    if not isinstance(told, dict):
        return
    if call is None:
        yield FieldDifference("grpc", "no gRPC call: its content type is another", "one")
        return
    if told.get("status") is None:
        if call.status is not None and Feature.GRPC in claims:
            yield FieldDifference("grpc.status", str(call.status), "none", missing=True)
    elif told["status"] != call.status:
        yield FieldDifference("grpc.status", str(call.status), in_words(str(told["status"])))
    for name, text in (("service", call.service), ("method", call.method), ("message", call.message)):
        if isinstance(told.get(name), str) and text is not None and not same_text(text.encode(), told[name]):
            yield FieldDifference(f"grpc.{name}", in_words(text), in_words(told[name]))
    for name, right in (("requests", call.requests), ("responses", call.responses)):
        messages = told.get(name)
        if isinstance(messages, dict) and messages.get("exact") and messages.get("count") != right:
            yield FieldDifference(f"grpc.{name}", f"of {right} messages", in_words(str(messages.get("count"))))


def same_text(true: bytes, told: str) -> bool:
    """Whether a text says these bytes.

    How bytes that are no printable ASCII are written as text is nobody's rule: any characters may stand for them.
    """
    if true.decode("latin-1") == told:
        return True
    parts = _UNPRINTABLE.split(true)
    if len(parts) == 1:
        return False
    pattern = ".*?".join(re.escape(part.decode("ascii")) for part in parts)
    return re.fullmatch(pattern, told, re.DOTALL) is not None


@lru_cache(maxsize=4096)
def same_address(told: str) -> str:
    """An address in its usual spelling (RFC 5952); a text that is no address as it is.

    An IPv4 address may be written as an IPv6 address: `::ffff:10.244.0.2` (RFC 4291, section 2.5.5.2).
    """
    try:
        address = ip_address(told.strip("[]"))
    except ValueError:
        return told
    return str(getattr(address, "ipv4_mapped", None) or address)


@lru_cache(maxsize=4096)
def same_end(told: str) -> tuple[str, int] | None:
    """Address and port of `10.244.0.2:8080` or `[fd00::2]:8080`; None where it is no such text."""
    match = _ENDPOINT.fullmatch(told)
    if match is None or len(match[3]) > 5:
        return None
    try:
        ip_address(match[1] or match[2])
    except ValueError:
        return None
    return same_address(match[1] or match[2]), int(match[3])


def _lines(fields: FieldLines) -> list[tuple[str, str]]:
    return [(name.decode("latin-1").lower(), _readable(value)) for name, value in fields]


def _readable(value: bytes) -> str:
    return value.decode("latin-1")


def _shown(lines: Sequence[tuple[str, str]]) -> str:
    return in_words("; ".join(f"{name}: {value}" for name, value in lines) or "none", _SHOWN * 2)


def _shown_values(values: Sequence[str]) -> str:
    several = " | ".join(in_words(each, _SHOWN) for each in values[:4])
    return f"{len(values)} line{'' if len(values) == 1 else 's'}, {several}"


def _shown_names(names: Sequence[str]) -> str:
    return in_words(", ".join(names), _SHOWN * 3)
