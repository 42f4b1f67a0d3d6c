"""All expected records and all reported ones, matched one to one. Pure.

What a record is about is told by the kit's marker in its target, else by the ends of its connection, else by what it
says. Of several that it may be about it is the one that it agrees with best: pod, ends, way, start lines, time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from harness.adapters.observed import MARKER, ReportedExchange
from harness.adapters.packets import words_of
from harness.conformance.oracle import hidden
from harness.conformance.oracle.compare import same_address, same_end, same_text
from harness.conformance.oracle.expectation import sidecar_ends
from harness.conformance.oracle.model import Address, Duty, Expected

_FAR_S = 30.0
_MOST_PAIRS = 20_000
"""Above this, records of one target are matched in their order."""


@dataclass(slots=True)
class Matched:
    """Who is whose. Numbers are those of the two lists that were matched."""

    pairs: dict[int, int] = field(default_factory=dict)
    """Record -> expectation."""
    repeats: dict[int, int] = field(default_factory=dict)
    """A record for which nothing is left -> an expectation that it repeats."""
    strange: list[int] = field(default_factory=list)
    """Records that are about nothing that happened."""


def match(expectations: Sequence[Expected], records: Sequence[ReportedExchange]) -> Matched:
    """Match each record with one expectation, and no expectation with two records."""
    # 1. Records that may be about the same expectations make a group.
    index = _Index(expectations)
    groups: dict[tuple[int, ...], list[int]] = {}
    found = Matched()
    for number, record in enumerate(records):
        about = index.about(record)
        if about:
            groups.setdefault(about, []).append(number)
        else:
            found.strange.append(number)
    taken: set[int] = set()
    # 2. In each group records and expectations that agree best make pairs. Small groups first: they have no choice.
    for about, numbers in sorted(groups.items(), key=lambda group: len(group[0])):
        _assign(expectations, records, [each for each in about if each not in taken], numbers, found, taken)
        for number in numbers:
            if number not in found.pairs:
                best = max(about, key=lambda each: _agreement(expectations[each], records[number]))
                found.repeats[number] = best
    # 3. A record with another target or pod, of a connection that has an exchange without a record: its field is wrong.
    strange, found.strange = found.strange, []
    for number in strange:
        free = [each for each in index.of_connection(records[number]) if each not in taken]
        free = [each for each in free if _same_start_lines(expectations[each], records[number])]
        if free:
            found.pairs[number] = max(free, key=lambda each: _agreement(expectations[each], records[number]))
            taken.add(found.pairs[number])
        else:
            found.strange.append(number)
    return found


def _same_start_lines(leg: Expected, record: ReportedExchange) -> bool:
    """Whether method and status are those of the exchange, as far as the record has them, and it has one of them."""
    pairs = (record.method, leg.exchange.method), (record.status, leg.exchange.status)
    given = [(told, true) for told, true in pairs if told is not None]
    return bool(given) and all(told == true for told, true in given)


def _assign(
    expectations: Sequence[Expected],
    records: Sequence[ReportedExchange],
    free: Sequence[int],
    numbers: Sequence[int],
    found: Matched,
    taken: set[int],
) -> None:
    pairs: Iterable[tuple[int, int]] = ((number, each) for number in numbers for each in free)
    if len(numbers) * len(free) > _MOST_PAIRS:
        pairs = _in_order(expectations, records, free, numbers)
    ranked = sorted(pairs, key=lambda pair: -_agreement(expectations[pair[1]], records[pair[0]]))
    for number, each in ranked:
        if number not in found.pairs and each not in taken:
            found.pairs[number] = each
            taken.add(each)


def _in_order(
    expectations: Sequence[Expected], records: Sequence[ReportedExchange], free: Sequence[int], numbers: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """Of each connection the first record and the first exchange, and so on; then the rest."""
    waiting: dict[Address | None, list[int]] = {}
    for each in free:
        waiting.setdefault(expectations[each].connection.client, []).append(each)
    queues = {client: iter(several) for client, several in waiting.items()}
    left = []
    for number in numbers:
        end = same_end(records[number].src or "")
        following = next(queues.get(end, iter(())), None)
        if following is None:
            left.append(number)
        else:
            yield number, following
    rest = [each for queue in queues.values() for each in queue]
    yield from zip(left, rest, strict=False)


class _Index:
    """Which expectations a record may be about."""

    def __init__(self, expectations: Sequence[Expected]) -> None:
        self._all = expectations
        self._by_marker: dict[bytes, list[int]] = {}
        self._by_target: dict[str | None, list[int]] = {}
        self._by_client: dict[Address, list[int]] = {}
        for number, each in enumerate(expectations):
            exchange = each.exchange
            target = None if exchange.target is None else exchange.target.encode("latin-1", "replace")
            for marker in set(MARKER.findall(target or b"")):
                self._by_marker.setdefault(marker, []).append(number)
            self._by_target.setdefault(exchange.target, []).append(number)
            self._by_client.setdefault(each.connection.client, []).append(number)

    def about(self, record: ReportedExchange) -> tuple[int, ...]:
        if record.target is not None:
            markers = MARKER.findall(record.target.encode(errors="replace"))
            if markers:
                return tuple(self._by_marker.get(markers[0], ()))
        elif record.response is not None:  # an answer by itself: it carries its request's marker
            values = " ".join(value for _, value in record.response.headers)
            for marker in MARKER.findall(values.encode(errors="replace")):
                if own := tuple(each for each in self._by_marker.get(marker, ()) if self._may_be(each, record)):
                    return own
        end = same_end(record.src or "")
        if end is not None:
            several = self._by_client.get(end, ())
            return tuple(each for each in several if self._may_be(each, record))
        several = self._by_target.get(record.target, ())
        return tuple(each for each in several if self._may_be(each, record))

    def of_connection(self, record: ReportedExchange) -> Sequence[int]:
        """The exchanges of the connection that a record names."""
        end = same_end(record.src or "")
        return () if end is None else self._by_client.get(end, ())

    def _may_be(self, number: int, record: ReportedExchange) -> bool:
        """Whether a record without a marker may be about this: it says nothing that is not so."""
        exchange, leg = self._all[number].exchange, self._all[number]
        if exchange.target is not None and MARKER.search(exchange.target.encode("latin-1", "replace")):
            # a record of it has the marker, unless only its answer was seen
            if record.target is not None:
                return False
        elif record.target is not None and (
            exchange.target is None
            or not (
                same_text(exchange.target.encode("latin-1"), record.target)
                or hidden.same_url(exchange.target, record.target)
            )
        ):
            return False
        if (record.target is None or record.src is None) and record.status not in (None, exchange.status):
            return False
        if record.src is None and record.method not in (None, exchange.method):
            return False
        pod = None if record.pod_ip is None else same_address(record.pod_ip)
        return pod is None or pod in leg.addresses


def _agreement(leg: Expected, record: ReportedExchange) -> float:
    """The more, the better they agree. What a record does not say counts neither way."""
    score = 0.0 if leg.duty is Duty.NEVER else 0.5
    exchange = leg.exchange
    if record.pod_ip is not None:
        score += 4 if same_address(record.pod_ip) in leg.addresses else -4
    interface = record.record.get("interface")
    if isinstance(interface, str):
        words = words_of(interface)
        score += 4 if leg.pod in words or any(word in leg.addresses for word in words) else -4
    if record.src is not None:
        score += 8 if same_end(record.src) == leg.connection.client else -8
    if record.dst is not None:
        score += 2 if same_end(record.dst) in sidecar_ends(leg.connection) else -2
    if record.direction is not None:
        score += 2 if record.direction in leg.directions else -2
    if record.method is not None:
        score += 1 if record.method == exchange.method else -1
    if record.status is not None:
        score += 1 if record.status == exchange.status else -1
    if record.time is not None:
        score -= min(abs(record.time - exchange.first_ns / 1e9), _FAR_S) / _FAR_S
    return score
