"""All of the oracle in one call."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.adapters.contract import Feature
from harness.adapters.observed import MARKER, ReportedExchange, in_words
from harness.adapters.packets import Packet
from harness.conformance.oracle import beneath, compare, counts, expectation, own_tls, packets, sockets
from harness.conformance.oracle.compare import same_address, same_end
from harness.conformance.oracle.expectation import PodDecoded
from harness.conformance.oracle.matching import Matched, match
from harness.conformance.oracle.model import (
    Address,
    Decoded,
    Difference,
    DifferenceKind,
    Duty,
    Expected,
    PodTruth,
    Span,
)

_SWITCHING = 101
_STILL_TRUE = frozenset(
    {"", expectation.NOT_WHOLE, expectation.UNPROVEN, expectation.BETWEEN_PODS, expectation.BEHIND_PROXY_HEADER}
)
"""Reasons for which nothing is owed, and what is told has to be true all the same."""


@dataclass(frozen=True, slots=True)
class Question:
    """One tapper's report, and the truth to hold it against."""

    truths: Sequence[PodTruth]
    """Of every pod that was recorded."""
    spans: Sequence[Span]
    """When each pod was a target, in time's order. A pod without a span never was one."""
    claims: frozenset[Feature]
    seen: Sequence[ReportedExchange] = ()
    """The records of a tapper that writes records."""
    others: Sequence[Mapping[str, Any]] = ()
    """Its records of all types but `http`, in order."""
    generations: int = 0
    """How many lists of targets it was given. 0 where that is not known."""
    packets: Sequence[Packet] | None = None
    """The packets of a tapper that writes packets; None for a tapper of records."""
    tolerance_s: float = 1.0
    """How far its times may be from the packets'."""
    undetermined: frozenset[str] = frozenset()
    """Client ends, as `127.0.0.6:40001`, of connections that the case leaves open to interpretation."""
    whole: bool = True
    """Whether `truths` are all that the tapper could see: else a record may be of what was not recorded."""
    may_lose: bool = False
    """Whether more was sent than anybody has to keep up with: then nothing is missing."""


def judge(question: Question) -> list[Difference]:
    """Every difference between the report and the truth, the most telling first."""
    return answer(question, [expectation.read_pod(truth) for truth in question.truths])


def answer(question: Question, pods: Sequence[PodDecoded]) -> list[Difference]:
    """The same where the truths have been read before."""
    if question.packets is not None:
        found = packets.differences(pods, question.packets, question.spans, question.tolerance_s)
    else:
        found = of_records(question, pods)
    return [each for each in found if each.kind is not DifferenceKind.MISSING or not question.may_lose]


def of_records(question: Question, pods: Sequence[PodDecoded]) -> Iterator[Difference]:
    """The differences of a tapper that writes records."""
    outside = expectation.between_pods(pods, question.spans)
    encrypted, others = own_tls.parted(question.seen, question.claims)
    on_node, on_lo = _parted(others, pods, outside)
    found = [
        *(own_tls.differences(pods, encrypted) if question.whole else ()),
        *_on_lo(question, pods, on_lo, {leg.exchange.target for leg in outside}),
        *_on_node(question, pods, outside, on_node),
    ]
    # an exchange that is missing or told twice explains a count that does not fit
    yield from found or counts.differences(pods, question.seen, question.others, question.generations)


def _parted(
    seen: Iterable[ReportedExchange], pods: Sequence[PodDecoded], outside: Sequence[Expected]
) -> tuple[list[ReportedExchange], list[ReportedExchange]]:
    """The records of what crossed between pods, and those of what crossed a pod's `lo`.

    A record is of the former kind by its direction, or by the client's end, whatever its direction says.
    """
    clients = {decoded.connection.client for pod in pods for decoded in pod.decoded}
    between = {leg.connection.client for leg in outside} - clients
    on_node: list[ReportedExchange] = []
    on_lo: list[ReportedExchange] = []
    for each in seen:
        is_between = each.direction == expectation.NODE or (each.src is not None and same_end(each.src) in between)
        (on_node if is_between else on_lo).append(each)
    return on_node, on_lo


def _on_lo(
    question: Question,
    pods: Sequence[PodDecoded],
    seen: Sequence[ReportedExchange],
    between_pods: Collection[str | None],
) -> Iterator[Difference]:
    """The differences of the records of legs on a pod's `lo`. `between_pods`: targets that crossed in plaintext there,
    too, so that a record without a direction and ends may be of that."""
    expectations = expectation.expected(pods, question.spans, question.undetermined)
    matched = match(expectations, seen)
    shown = [(expectations[each], _proves_until(expectations[each], seen[n])) for n, each in matched.pairs.items()]
    midstream = Feature.MIDSTREAM in question.claims
    expectations = expectation.with_duties(expectations, shown, question.spans, midstream=midstream)
    excused = _Excused([(pod.truth, pod.decoded) for pod in pods], question)
    clients = {each.connection.client for each in expectations}
    yield from _strange(question, seen, matched, excused)
    for number, each in matched.repeats.items():
        if any(
            _two_halves(expectations[other], seen[told], seen[number], question.spans)
            for told, other in matched.pairs.items()
        ):
            continue
        record = seen[number]
        if record.src is None:
            on_lo = record.direction is not None or record.target not in between_pods
        else:
            on_lo = same_end(record.src) in clients
        if on_lo and not excused.covers(seen[number]) and expectations[each].duty is not Duty.NEVER:
            yield _repeated(expectations[each], seen[number])
    yield from _told(question, pods, expectations, seen, matched)
    yield from _missing(question, expectations, set(matched.pairs.values()))
    if Feature.WEBSOCKET in question.claims:
        upgrades = [leg for leg in expectations if leg.exchange.status == _SWITCHING and leg.duty is not Duty.NEVER]
        yield from sockets.differences(pods, upgrades, question.others, question.claims, question.tolerance_s)


def _proves_until(leg: Expected, record: ReportedExchange) -> int:
    """Until when a record proves that the tapper looked, in nanoseconds since 1970."""
    answered = record.status is not None or record.response is not None
    return leg.exchange.last_ns if answered else leg.exchange.first_ns


def _on_node(
    question: Question, pods: Sequence[PodDecoded], expectations: Sequence[Expected], seen: Sequence[ReportedExchange]
) -> Iterator[Difference]:
    """The differences of the records of what crossed between pods."""
    if not seen:
        return
    excused = _Excused([(pod.truth, pod.outside) for pod in pods], question)
    addresses = frozenset[str]().union(*(pod.truth.addresses for pod in pods))
    matched = match(expectations, seen)
    matched.strange = [number for number in matched.strange if _ends_at(seen[number], addresses)]
    yield from _strange(question, seen, matched, excused)
    for number, each in matched.repeats.items():
        if not excused.covers(seen[number]):
            yield _repeated(expectations[each], seen[number])
    yield from _told(question, pods, expectations, seen, matched)


def _ends_at(record: ReportedExchange, addresses: frozenset[str]) -> bool:
    """Whether one end of a record is a recorded pod: of anything else the kit has no truth."""
    ends = [same_end(end) for end in (record.src, record.dst) if end is not None]
    return any(end is not None and end[0] in addresses for end in ends)


def _told(
    question: Question,
    pods: Sequence[PodDecoded],
    expectations: Sequence[Expected],
    seen: Sequence[ReportedExchange],
    matched: Matched,
) -> Iterator[Difference]:
    """The wrong fields of the matched records, and the records without a cause."""
    by_name = {pod.truth.name: pod for pod in pods}
    for number, each in sorted(matched.pairs.items()):
        leg, record = expectations[each], seen[number]
        if leg.duty is Duty.NEVER:
            yield Difference(
                DifferenceKind.FORBIDDEN,
                "",
                expectation.about(leg),
                f"no record of it: {leg.why}",
                str(record),
                leg,
                record.record,
            )
        else:
            yield from _wrong(leg, record, question, by_name.get(leg.pod))


def _strange(
    question: Question, seen: Sequence[ReportedExchange], matched: Matched, excused: _Excused
) -> Iterator[Difference]:
    for number in matched.strange:
        record = seen[number]
        if question.whole and not excused.covers(record):
            what = in_words(f"a record of {record.method} {record.target} -> {record.status}")
            yield Difference(
                DifferenceKind.INVENTED, "", what, "no record of what did not happen", str(record), None, record.record
            )


def _two_halves(leg: Expected, asked: ReportedExchange, answered: ReportedExchange, spans: Sequence[Span]) -> bool:
    """Whether two records are a request without its answer and that answer, of an exchange within which the tapper may
    have lost sight of the pod: both are true then."""
    exchange = leg.exchange
    if asked.response is not None or answered.request is not None or answered.response is None:
        return False
    if asked.src != answered.src or answered.status != exchange.status:
        return False
    return not any(
        span.pod == leg.pod and span.start_ns <= exchange.first_ns and exchange.last_ns <= span.end_ns for span in spans
    )


def _repeated(leg: Expected, record: ReportedExchange) -> Difference:
    return Difference(
        DifferenceKind.REPEATED,
        "",
        expectation.about(leg),
        "one record of it",
        f"another one: {record}",
        leg,
        record.record,
    )


def _wrong(leg: Expected, record: ReportedExchange, question: Question, pod: PodDecoded | None) -> Iterator[Difference]:
    fields = list(compare.differences(leg, record, question.claims, question.tolerance_s))
    fields += beneath.difference(leg, record, pod)
    for field in fields:
        if leg.duty is not Duty.MUST and (field.missing or leg.why not in _STILL_TRUE):
            continue
        kind = DifferenceKind.MISSING if field.missing else DifferenceKind.WRONG
        expected = f"{field.field.replace('.lines', '.headers').replace('.secrets', '.headers')} {field.expected}"
        yield Difference(kind, field.field, expectation.about(leg), expected, field.seen, leg, record.record)


def _missing(question: Question, expectations: Sequence[Expected], shown: set[int]) -> Iterator[Difference]:
    for number, leg in enumerate(expectations):
        if leg.duty is Duty.MUST and number not in shown and _claimed(leg, question.claims):
            yield Difference(DifferenceKind.MISSING, "", expectation.about(leg), "a record of it", "none", leg)


def _claimed(leg: Expected, claims: frozenset[Feature]) -> bool:
    """Whether a tapper with these claims has to report such an exchange at all."""
    if leg.exchange.protocol == "HTTP/2" and Feature.HTTP2 not in claims:
        return False
    return ":" not in leg.connection.client[0] or Feature.IPV6 in claims


class _Excused:
    """Records of connections that nobody can read for certain: what is said of them is not held against anybody."""

    def __init__(self, several: Iterable[tuple[PodTruth, Sequence[Decoded]]], question: Question) -> None:
        self._ends: set[Address] = set()
        self._markers: set[bytes] = set()
        self._any = False
        self._unproven: set[str] = set()
        """Addresses of the pods whose recording lost packets: it proves of nothing that it did not happen."""
        for truth, connections in several:
            if truth.lost:
                self._any = True
                self._unproven |= set(truth.addresses)
            for decoded in connections:
                left_open = expectation.in_words(decoded.connection.client) in question.undetermined
                unread = decoded.flaw or decoded.connection.has_proxy_header
                if truth.lost or truth.foreign_envoy or unread or left_open:
                    self._add(decoded)

    def _add(self, decoded: Decoded) -> None:
        connection = decoded.connection
        self._any = True
        self._ends |= {connection.client, connection.source, connection.server, connection.replies_from}
        for data in (connection.requests.data, connection.responses.data, *connection.beyond):
            self._markers |= set(MARKER.findall(data))

    def covers(self, record: ReportedExchange) -> bool:
        if not self._any:
            return False
        if self._unproven and (record.pod_ip is None or same_address(record.pod_ip) in self._unproven):
            return True
        markers = set(MARKER.findall((record.target or "").encode(errors="replace")))
        end = same_end(record.src or "")
        if markers and (markers & self._markers or end is None):
            return bool(markers & self._markers)
        return end is None or end in self._ends  # bytes behind a hole are not among what was read
