"""Comparing the sent requests with a tapper's report. Pure; a difference is a `Violation` with both sides in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from harness.adapters.contract import Adapter, Feature
from harness.adapters.observed import ReportedExchange
from harness.adapters.observed import in_words as printable
from harness.adapters.packets import words_of
from harness.conformance import positions
from harness.conformance.audit import unpacked
from harness.conformance.oracle import hidden
from harness.conformance.oracle.compare import same_address, same_end
from harness.conformance.truth import INBOUND, OUTBOUND, ExpectedLeg, NamedPod, Sent, in_words, nonces_in
from harness.conformance.verdict import Violation
from harness.mesh.app import NONCE_HEADER
from harness.mesh.envoy_config import LOOPBACK, OUTBOUND_PORT

_EXAMPLES = 3
_LONGEST_LINE = 120
_SIDECAR = (f"{LOOPBACK[4]}:{OUTBOUND_PORT}", f"[{LOOPBACK[6]}]:{OUTBOUND_PORT}")


def of(sent: Sent, seen: Iterable[ReportedExchange]) -> list[ReportedExchange]:
    """The reported exchanges of one request."""
    return [each for each in seen if each.target is not None and sent.nonce in each.target]


def once(sent: Sequence[Sent], sightings: Sequence[ReportedExchange], adapter: Adapter, *, copies: int = 1) -> None:
    """Every request is reported once for each of its legs, and correctly.

    `copies`: reports per exchange, measured on canaries. Duplicates up to that number are CAP-03's business.
    """
    index = _index(sent, sightings)
    missing = [each for each in sent if len(index.get(each.nonce, ())) < len(each.legs)]
    extra = _too_often(sent, index, copies)
    if missing or extra:
        raise Violation(
            f"each of {len(sent)} requests {_times(sent[0], copies)}",
            f"{_count(missing)} too seldom, {_count(extra)} too often{_which(missing or extra, sent, index)}",
        )
    for each in sent:
        _is_told_right(each, index[each.nonce], adapter)


def seen(
    sent: Sequence[Sent],
    sightings: Sequence[ReportedExchange],
    adapter: Adapter,
    *,
    paired: bool = False,
    copies: int | None = None,
) -> None:
    """Every request is reported for each of its legs, correctly, and no more often than canaries: for cases that are
    not about duplicates.

    `paired`: with its answer, too; otherwise a report without an answer is correct. `copies` as in `once`; None allows
    any number.
    """
    index = _index(sent, sightings)
    missing = [each for each in sent if len(index.get(each.nonce, ())) < len(each.legs)]
    if missing:
        seldom = "too seldom" if any(each.nonce in index for each in missing) else "not at all"
        raise Violation(f"each of {len(sent)} requests", f"{len(missing)} {seldom}{_which(missing, sent, index)}")
    extra = [] if copies is None else _too_often(sent, index, copies)
    if extra:
        raise Violation(
            f"each of {len(sent)} requests {_times(extra[0], copies or 1)}",
            f"{len(extra)} too often{_which(extra, sent, index)}",
        )
    for each in sent:
        _is_told_right(each, index[each.nonce], adapter, paired=paired)


def is_of_the_wire(sighting: ReportedExchange, pods: Sequence[NamedPod]) -> bool:
    """Whether a report is of the wire between these pods, and so of no leg on a pod's `lo`.

    Its direction is neither inbound nor outbound; or it has no direction, and its two ends are addresses of these pods.
    """
    if not pods or sighting.direction is not None:
        return bool(pods) and sighting.direction not in (INBOUND, OUTBOUND)
    addresses = {address for pod in pods for address in (str(pod.ipv4), str(pod.ipv6))}
    ends = {end[0] for text in (sighting.src, sighting.dst) if (end := same_end(text or "")) is not None}
    return len(ends) == 2 and ends <= addresses


def may_be_of_the_wire(sighting: ReportedExchange) -> bool:
    """Whether a report has neither a direction nor both ends, so that its leg is unknown."""
    return sighting.direction is None and None in (sighting.src, sighting.dst)


def usual_copies(canaries: Sequence[Sent], sightings: Sequence[ReportedExchange]) -> int | None:
    """How often a tapper reports one undisturbed exchange, by its reports of canaries; None if it reports none of them.

    The most frequent number, and of equally frequent ones the least.
    """
    index = _index(canaries, sightings)
    counts = Counter(len(index[each.nonce]) for each in canaries if each.nonce in index)
    return min(counts, key=lambda count: (-counts[count], count)) if counts else None


def _too_often(sent: Sequence[Sent], index: dict[str, list[ReportedExchange]], copies: int) -> list[Sent]:
    return [each for each in sent if len(index.get(each.nonce, ())) > len(each.legs) * copies]


def _times(each: Sent, copies: int) -> str:
    legs = len(each.legs)
    times = "once" if legs == 1 else f"{legs} times, once for each leg"
    return times if copies == 1 else f"{times}, and each {copies} times as in calm"


def _index(sent: Sequence[Sent], sightings: Sequence[ReportedExchange]) -> dict[str, list[ReportedExchange]]:
    index: dict[str, list[ReportedExchange]] = {}
    wanted = {each.nonce for each in sent}
    for each in sightings:
        for nonce in wanted & set(nonces_in(each.target or "")):
            index.setdefault(nonce, []).append(each)
    return index


def _asked(sent: Sent) -> str:
    """The request in words; a long target is cut."""
    return printable(f"{sent.method} {sent.target}", _LONGEST_LINE)


def trace(sent: Sent) -> bytes:
    """The digits of a request's marker: where they are written, the request is written."""
    return sent.nonce.rpartition("-")[2].encode()


def never(forbidden: Sequence[Sent], everything: Iterable[bytes]) -> None:
    """Nothing of these is anywhere in the tapper's output, plain or packed."""
    found: dict[bytes, str] = {}
    for text in everything:
        found |= unpacked.find({trace(each) for each in forbidden}, text)
    absent(forbidden, found)


def absent(forbidden: Sequence[Sent], found: Mapping[bytes, str]) -> None:
    """None of the traces of these requests was found. `found`: trace -> place, in words."""
    for each in forbidden:
        where = found.get(trace(each))
        if where is not None:
            legs = ", ".join(map(str, each.legs))
            raise Violation("nothing of what it was not asked for", f"{_asked(each)} ({legs}) {where}")


def answered(sent: Sequence[Sent], seen: Sequence[ReportedExchange]) -> None:
    """Every request is reported with its answer."""
    for each in sent:
        found = of(each, seen)
        if not any(sighting.response is not None or sighting.status is not None for sighting in found):
            raise Violation(f"{_asked(each)} with its answer", "; ".join(map(str, found)) or "nothing of it")


def bodies(sent: Sequence[Sent], seen: Sequence[ReportedExchange], *, where_told: bool = False) -> None:
    """Every body is reported whole, or marked as cut; `once` has found each request before.

    `where_told`: only bodies that a record has, since leaving bodies out is correct.
    """
    for each in sent:
        for sighting in of(each, seen):
            for whose, message, body in (
                ("request", sighting.request, each.request_body),
                ("response", sighting.response, each.response_body),
            ):
                if where_told and (message is None or not message.gives_body):
                    continue
                given = b"" if message is None else message.body
                if given != body and not (message is not None and message.truncated):
                    raise Violation(
                        f"{_asked(each)} with its {whose}'s body of {len(body)} bytes, or said to be cut",
                        f"{len(given)} bytes{_first_difference(given, body)}, and nothing said about a cut",
                    )


def nothing_invented(seen: Sequence[ReportedExchange], strange_ports: Iterable[int]) -> None:
    """No exchange is reported of connections with these ports, which carry no HTTP.

    Nor an exchange without target, status and source.
    """
    ports = tuple(f":{port}" for port in strange_ports)
    for each in seen:
        nameless = each.target is None and each.status is None and each.src is None
        if nameless or any(end is not None and end.endswith(ports) for end in (each.src, each.dst)):
            raise Violation("no HTTP of a connection that carries none", str(each))


def not_presented(hidden: Sequence[Sent], seen: Sequence[ReportedExchange]) -> None:
    """Nothing of these is reported as a request, although its bytes were there."""
    for each in hidden:
        for sighting in of(each, seen):
            raise Violation("no request made of bytes that are another protocol's", str(sighting))


def paired_right(sent: Sequence[Sent], seen: Sequence[ReportedExchange]) -> None:
    """A request is reported with its own answer or with none; it may also be missing."""
    for each in sent:
        for sighting in of(each, seen):
            if sighting.status is not None and sighting.status != each.status:
                raise Violation(f"{_asked(each)} with its own answer, {each.status}, or without one", str(sighting))


def _first_difference(given: bytes, body: bytes) -> str:
    at = next((at for at, (one, other) in enumerate(zip(given, body, strict=False)) if one != other), None)
    return "" if at is None else f", another one at {at}"


def _is_told_right(sent: Sent, found: Sequence[ReportedExchange], adapter: Adapter, *, paired: bool = False) -> None:
    if Feature.HTTP1 in adapter.claims or Feature.HTTP2 in adapter.claims:
        for sighting in found:
            statuses = {sent.status} if paired else {sent.status, None}
            same_target = sighting.target is not None and hidden.same_url(sent.target, sighting.target)
            if sighting.method != sent.method or not same_target or sighting.status not in statuses:
                raise Violation(f"{_asked(sent)} answered with {sent.status}", str(sighting))
            others = [] if sighting.response is None else sighting.response.header(NONCE_HEADER)
            if others not in ([], [sent.nonce]):
                raise Violation(f"{_asked(sent)} with its own answer", f"that of {', '.join(others)}")
    for sighting in found:
        from_and_to(sent, sighting)
    told: Counter[tuple[str | None, str | None]] = Counter()
    wanted: Counter[tuple[str | None, str | None]] = Counter()
    by_pod, by_direction = Feature.POD_IDENTITY in adapter.claims, Feature.DIRECTION in adapter.claims
    for leg in sent.legs:
        wanted[(in_words(leg.pod) if by_pod else None, leg.direction if by_direction else None)] += 1
    pods = {in_words(leg.pod): leg for leg in sent.legs}
    for sighting in found:
        whose = next((name for name, leg in pods.items() if names_pod(sighting, leg)), f"not {' or '.join(pods)}")
        told[(whose if by_pod else None, sighting.direction if by_direction else None)] += 1
    if told.keys() != wanted.keys():
        raise Violation(f"{_asked(sent)} {_legs(wanted)}", f"{_legs(told)}: " + "; ".join(map(str, found)))


def from_and_to(sent: Sent, sighting: ReportedExchange) -> None:
    """The reported ends are those of the packets; either may be missing. The `dst` of a redirected leg may be the
    sidecar."""
    if len(sent.legs) != 1:
        return
    sidecar = _SIDECAR if sent.legs[0].direction == OUTBOUND else ()
    for word, told, right in (("from", sighting.src, (sent.src,)), ("to", sighting.dst, (sent.dst, *sidecar))):
        if told is not None and right[0] is not None and same_end(told) not in [same_end(end or "") for end in right]:
            raise Violation(f"{_asked(sent)} {word} {right[0]}", str(sighting))


def names_pod(sighting: ReportedExchange, leg: ExpectedLeg) -> bool:
    """Whether a report names the leg's pod: by an address, or by the name of a capture's interface."""
    addresses = (str(leg.pod.ipv4), str(leg.pod.ipv6))
    if sighting.pod_ip is not None:
        return same_address(sighting.pod_ip) in addresses
    words = words_of(str(sighting.record.get("interface", "")))
    return any(name in words for name in (*addresses, leg.pod.name))


def _legs(told: Counter[tuple[str | None, str | None]]) -> str:
    return " and ".join(
        " ".join(filter(None, (direction, f"at {pod}" if pod else None))) or "seen" for pod, direction in told
    )


def _count(some: Sequence[Sent]) -> str:
    return "none" if not some else str(len(some))


def _which(some: Sequence[Sent], sent: Sequence[Sent], index: dict[str, list[ReportedExchange]]) -> str:
    """The requests in question, and the reports of the first: `, namely the 2nd of 9; GET /x: seen …`."""
    wanted = {each.nonce for each in some}
    places = positions.in_words((at for at, each in enumerate(sent) if each.nonce in wanted), len(sent))
    first = some[0]
    found = index.get(first.nonce, [])
    words = f", namely {places}; the first is {_asked(first)}"
    if not found:
        return words
    lacking = _lacking(first, found)
    return words + (f", without {lacking}" if lacking else "") + f": {'; '.join(map(str, found[:_EXAMPLES]))}"


def _lacking(sent: Sent, found: Sequence[ReportedExchange]) -> str:
    """The legs of an exchange that nobody reported, as far as the reports have directions."""
    told = {each.direction for each in found}
    if len(sent.legs) < 2 or len(found) >= len(sent.legs) or None in told:
        return ""
    return " and ".join(f"its leg {leg}" for leg in sent.legs if leg.direction not in told)
