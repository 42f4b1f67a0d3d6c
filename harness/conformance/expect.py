"""Comparing what was sent with what a tapper said. Pure; a difference is a `Violation` with both sides in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from harness.adapters.contract import Adapter, Feature
from harness.adapters.observed import Seen
from harness.conformance.truth import Leg, Sent, nonces_in
from harness.conformance.verdict import Violation

_EXAMPLES = 3


def of(sent: Sent, seen: Iterable[Seen]) -> list[Seen]:
    """The sightings of one request."""
    return [each for each in seen if each.target is not None and sent.nonce in each.target]


def once(sent: Sequence[Sent], sightings: Sequence[Seen], adapter: Adapter) -> None:
    """Every request is there once for each of its legs, and told right."""
    index = _index(sent, sightings)
    missing = [each for each in sent if len(index.get(each.nonce, ())) < len(each.legs)]
    extra = [each for each in sent if len(index.get(each.nonce, ())) > len(each.legs)]
    if missing or extra:
        legs = len(sent[0].legs)
        times = "once" if legs == 1 else f"{legs} times, once for each leg"
        raise Violation(
            f"each of {len(sent)} requests {times}",
            f"{_count(missing)} too seldom, {_count(extra)} too often" + _example(missing or extra, index),
        )
    for each in sent:
        _is_told_right(each, index[each.nonce], adapter)


def seen(sent: Sequence[Sent], sightings: Sequence[Seen], adapter: Adapter, *, paired: bool = False) -> None:
    """Every request is there for each of its legs, however often, and told right: for what is about something else.

    `paired`: with its answer, too. Otherwise a tapper that could not find an answer has said nothing wrong.
    """
    index = _index(sent, sightings)
    missing = [each for each in sent if len(index.get(each.nonce, ())) < len(each.legs)]
    if missing:
        raise Violation(f"each of {len(sent)} requests", f"{len(missing)} not at all{_example(missing, index)}")
    for each in sent:
        _is_told_right(each, index[each.nonce], adapter, paired=paired)


def _index(sent: Sequence[Sent], sightings: Sequence[Seen]) -> dict[str, list[Seen]]:
    index: dict[str, list[Seen]] = {}
    wanted = {each.nonce for each in sent}
    for each in sightings:
        for nonce in wanted & set(nonces_in(each.target or "")):
            index.setdefault(nonce, []).append(each)
    return index


def never(forbidden: Sequence[Sent], everything: Iterable[bytes]) -> None:
    """Nothing of these is anywhere in what the tapper wrote."""
    everything = list(everything)
    for each in forbidden:
        if any(each.nonce.encode() in text for text in everything):
            legs = ", ".join(f"{leg.direction} at {leg.pod.name}" for leg in each.legs)
            raise Violation("nothing of what it was not asked for", f"{each.method} {each.target} ({legs})")


def answered(sent: Sequence[Sent], seen: Sequence[Seen]) -> None:
    """Every request is there with its answer."""
    for each in sent:
        found = of(each, seen)
        if not any(sighting.response is not None or sighting.status is not None for sighting in found):
            raise Violation(
                f"{each.method} {each.target} with its answer", "; ".join(map(str, found)) or "nothing of it"
            )


def bodies(sent: Sequence[Sent], seen: Sequence[Seen]) -> None:
    """Every body is given whole, or is said not to be; each request has been found before (`once`)."""
    for each in sent:
        for sighting in of(each, seen):
            for whose, message, body in (
                ("request", sighting.request, each.request_body),
                ("response", sighting.response, each.response_body),
            ):
                given = b"" if message is None else message.body
                if given != body and not (message is not None and message.truncated):
                    raise Violation(
                        f"{each.method} {each.target} with its {whose}'s body of {len(body)} bytes, or said to be cut",
                        f"{len(given)} bytes{_first_difference(given, body)}, and nothing said about a cut",
                    )


def nothing_invented(seen: Sequence[Seen], strange_ports: Iterable[int]) -> None:
    """No exchange is reported of connections that carry none that could be told: those of these ports.

    Nor one of which nothing is said: neither what was asked, nor the answer, nor by whom.
    """
    ports = tuple(f":{port}" for port in strange_ports)
    for each in seen:
        nameless = each.target is None and each.status is None and each.src is None
        if nameless or any(end is not None and end.endswith(ports) for end in (each.src, each.dst)):
            raise Violation("no HTTP of a connection that carries none", str(each))


def not_presented(hidden: Sequence[Sent], seen: Sequence[Seen]) -> None:
    """Nothing of these is presented as a request, although its bytes were there."""
    for each in hidden:
        for sighting in of(each, seen):
            raise Violation("no request made of bytes that are another protocol's", str(sighting))


def paired_right(sent: Sequence[Sent], seen: Sequence[Seen]) -> None:
    """Whatever is shown with an answer is shown with its own: a request may be missing, or its answer."""
    for each in sent:
        for sighting in of(each, seen):
            if sighting.status is not None and sighting.status != each.status:
                raise Violation(
                    f"{each.method} {each.target} with its own answer, {each.status}, or without one", str(sighting)
                )


def _first_difference(given: bytes, body: bytes) -> str:
    at = next((at for at, (one, other) in enumerate(zip(given, body, strict=False)) if one != other), None)
    return "" if at is None else f", another one at {at}"


def _is_told_right(sent: Sent, found: Sequence[Seen], adapter: Adapter, *, paired: bool = False) -> None:
    if Feature.HTTP1 in adapter.claims or Feature.HTTP2 in adapter.claims:
        for sighting in found:
            statuses = {sent.status} if paired else {sent.status, None}
            if sighting.method != sent.method or sighting.status not in statuses:
                raise Violation(f"{sent.method} {sent.target} answered with {sent.status}", str(sighting))
    told: Counter[tuple[str | None, str | None]] = Counter()
    wanted: Counter[tuple[str | None, str | None]] = Counter()
    by_pod, by_direction = Feature.POD_IDENTITY in adapter.claims, Feature.DIRECTION in adapter.claims
    for leg in sent.legs:
        wanted[(leg.pod.name if by_pod else None, leg.direction if by_direction else None)] += 1
    pods = {leg.pod.name: leg for leg in sent.legs}
    for sighting in found:
        whose = next((name for name, leg in pods.items() if names_pod(sighting, leg)), f"not {' or '.join(pods)}")
        told[(whose if by_pod else None, sighting.direction if by_direction else None)] += 1
    if told.keys() != wanted.keys():
        raise Violation(f"{sent.method} {sent.target} {_legs(wanted)}", f"{_legs(told)}: " + "; ".join(map(str, found)))


def names_pod(sighting: Seen, leg: Leg) -> bool:
    """Whether a sighting says that it is of the leg's pod: by an address, or by the name of a capture's interface."""
    addresses = (str(leg.pod.ipv4), str(leg.pod.ipv6))
    if sighting.pod_ip is not None:
        return sighting.pod_ip in addresses
    interface = str(sighting.record.get("interface", ""))
    words = interface.replace("@", " ").replace("/", " ").split()
    return any(name in words for name in (*addresses, leg.pod.name))


def _legs(told: Counter[tuple[str | None, str | None]]) -> str:
    return " and ".join(
        " ".join(filter(None, (direction, f"at {pod}" if pod else None))) or "seen" for pod, direction in told
    )


def _count(some: Sequence[Sent]) -> str:
    return "none" if not some else str(len(some))


def _example(some: Sequence[Sent], index: dict[str, list[Seen]]) -> str:
    first = some[0]
    found = index.get(first.nonce, [])[:_EXAMPLES]
    return f", first of all {first.method} {first.target}: " + ("; ".join(map(str, found)) or "not at all")
