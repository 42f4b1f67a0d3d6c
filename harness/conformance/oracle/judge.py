"""All of the oracle in one call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.adapters.contract import Feature
from harness.adapters.observed import MARKER, ReportedExchange, in_words
from harness.adapters.packets import Packet
from harness.conformance.oracle import compare, expectation, packets, sockets
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
_ELSEWHERE = frozenset({expectation.NODE})
"""Ways of what was not on a pod's `lo`, where the kit has no truth."""


@dataclass(frozen=True, slots=True)
class Question:
    """One tapper's report, and the truth to hold it against."""

    truths: Sequence[PodTruth]
    """Of every pod that was recorded."""
    spans: Sequence[Span]
    """When each pod was a target, in time's order. A pod without a span never was one."""
    claims: frozenset[Feature]
    seen: Sequence[ReportedExchange] = ()
    """What a tapper of records reported."""
    socket_records: Sequence[Mapping[str, Any]] = ()
    """Its records of type `websocket`."""
    packets: Sequence[Packet] | None = None
    """What a tapper of packets captured; None of a tapper of records."""
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
    expectations = expectation.expected(pods, question.spans, question.undetermined)
    seen = [each for each in question.seen if each.direction not in _ELSEWHERE]
    matched = match(expectations, seen)
    shown = [expectations[each] for each in matched.pairs.values()]
    midstream = Feature.MIDSTREAM in question.claims
    expectations = expectation.with_duties(expectations, shown, question.spans, midstream=midstream)
    excused = _Excused(pods, question)
    clients = {each.connection.client for each in expectations}
    yield from _strange(question, seen, matched, excused)
    for number, each in matched.repeats.items():
        if any(
            _two_halves(expectations[other], seen[told], seen[number], question.spans)
            for told, other in matched.pairs.items()
        ):
            continue
        on_lo = seen[number].src is None or same_end(seen[number].src or "") in clients
        if on_lo and not excused.covers(seen[number]) and expectations[each].duty is not Duty.NEVER:
            yield _repeated(expectations[each], seen[number])
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
            yield from _wrong(leg, record, question)
    yield from _missing(question, expectations, set(matched.pairs.values()))
    if Feature.WEBSOCKET in question.claims:
        upgrades = [leg for leg in expectations if leg.exchange.status == _SWITCHING and leg.duty is not Duty.NEVER]
        yield from sockets.differences(pods, upgrades, question.socket_records)


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


def _wrong(leg: Expected, record: ReportedExchange, question: Question) -> Iterator[Difference]:
    for field in compare.differences(leg, record, question.claims, question.tolerance_s):
        if leg.duty is not Duty.MUST and (field.missing or leg.why not in _STILL_TRUE):
            continue
        kind = DifferenceKind.MISSING if field.missing else DifferenceKind.WRONG
        yield Difference(
            kind, field.field, expectation.about(leg), f"{field.field} {field.expected}", field.seen, leg, record.record
        )


_STILL_TRUE = frozenset({"", "it is not whole", "nothing proves that the tapper looked at that time"})
"""Reasons for which nothing is owed, and what is told has to be true all the same."""


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

    def __init__(self, pods: Sequence[PodDecoded], question: Question) -> None:
        self._ends: set[Address] = set()
        self._markers: set[bytes] = set()
        self._any = False
        self._unproven: set[str] = set()
        """Addresses of the pods whose recording lost packets: it proves of nothing that it did not happen."""
        for pod in pods:
            if pod.truth.lost:
                self._any = True
                self._unproven |= set(pod.truth.addresses)
            for decoded in pod.decoded:
                connection = decoded.connection
                left_open = expectation.in_words(connection.client) in question.undetermined
                if pod.truth.lost or pod.truth.foreign_envoy or decoded.flaw or left_open:
                    self._add(decoded)

    def _add(self, decoded: Decoded) -> None:
        connection = decoded.connection
        self._any = True
        self._ends |= {connection.client, connection.source, connection.server, connection.replies_from}
        for way in (connection.requests, connection.responses):
            self._markers |= set(MARKER.findall(way.data))

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
