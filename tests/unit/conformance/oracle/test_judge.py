"""The oracle finds every fault in a report, and none in a perfect one or in a right one that is different."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from oracle_faults import FAULTS, Wrong, found
from oracle_world import Record, World, everything

from harness.adapters.contract import Feature
from harness.conformance.oracle import expectation
from harness.conformance.oracle.judge import answer
from harness.conformance.oracle.model import Difference, DifferenceKind, Span


@pytest.fixture(scope="module")
def world() -> World:
    return everything()


def said(differences: Iterable[Difference]) -> list[str]:
    return [f"{each.kind} {each.field}: {each}" for each in differences]


def test_a_perfect_report_has_no_fault(world: World) -> None:
    assert said(world.judged(world.question())) == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found(world: World, fault: Wrong) -> None:
    assert found(world, fault)


def _shuffled(records: list[Record]) -> list[Record]:
    random.Random(7).shuffle(records)
    return records


def _each(change: Callable[[Record], Record]) -> Callable[[list[Record]], list[Record]]:
    return lambda records: [change(record) for record in records]


def _less(*names: str) -> Callable[[list[Record]], list[Record]]:
    return _each(lambda record: {name: value for name, value in record.items() if name not in names})


def _messages(change: Callable[[Record], Record]) -> Callable[[list[Record]], list[Record]]:
    return _each(lambda record: record | {which: change(record[which]) for which in ("request", "response")})


@pytest.mark.parametrize(
    "change",
    [
        _shuffled,
        _less("request", "response"),
        _less("src", "dst", "ts", "duration_s", "netns", "version", "grpc"),
        _less("netns"),
        _each(lambda record: record | {"unknown": 1, "version": record["version"].removeprefix("HTTP/")}),
        _each(lambda r: r | {"pod_ip": r["pod_ip"] and "FD00:0:0:0:0:0:0:" + r["pod_ip"][-1]}),
        _each(lambda record: record | {"ts": record["ts"] + 0.9}),
        _messages(lambda message: message | {"body_b64": "", "truncated": True}),
        _messages(lambda message: {name: value for name, value in message.items() if name != "body_b64"}),
        _messages(lambda message: message | {"headers": [[name.upper(), value] for name, value in message["headers"]]}),
        _messages(lambda message: message | {"headers": [*message["headers"], *message["trailers"]], "trailers": []}),
        _each(lambda record: record | {"dst": record["dst"].replace("10.96.77.10:80", "127.0.0.1:15001")}),
    ],
)
def test_a_right_report_may_be_different(world: World, change: Callable[[list[Record]], list[Record]]) -> None:
    assert said(world.judged(world.question(change(copy.deepcopy(world.records))))) == []


def test_a_tapper_that_claims_little_is_asked_little(world: World) -> None:
    records = [{"type": "http", "target": record["target"]} for record in world.records]
    assert said(world.judged(world.question(records, claims=frozenset(), others=()))) == []
    without_http2 = [record for record in world.records if record["version"] != "HTTP/2"]
    claims = frozenset({Feature.HTTP1, Feature.IPV6})
    assert said(world.judged(world.question(without_http2, claims=claims, others=()))) == []


def test_nothing_is_missing_before_the_tapper_looked_nor_after(world: World) -> None:
    seen = [record for record in world.records if record["pod_ip"] == "10.244.0.2"]
    assert said(world.judged(world.question(seen, others=()))) == []


def test_a_break_opens_a_gap_in_what_is_owed(world: World) -> None:
    first = next(number for number, record in enumerate(world.records) if record["status"] == 211)
    records = [*world.records[:first], *world.records[first + 1 :]]
    assert [each.kind for each in world.judged(world.question(records))] == [DifferenceKind.MISSING]
    moment = int(world.records[first]["ts"] * 1e9)
    spans = [
        span
        for each in world.question().spans
        for span in (replace(each, end_ns=moment - 10**6), replace(each, start_ns=moment + 10**7))
    ]
    assert said(world.judged(world.question(records, spans=spans, others=world.sockets))) == []


def test_a_pod_that_is_no_target_is_not_reported(world: World) -> None:
    spans = [Span("pod-2", 0, world.now_ns)]
    kinds = {each.kind for each in world.judged(world.question(spans=spans, others=()))}
    assert kinds == {DifferenceKind.FORBIDDEN}
    others = [record for record in world.records if record["pod_ip"] == "10.244.0.2"]
    assert said(world.judged(world.question(others, spans=spans, others=()))) == []


@pytest.mark.parametrize(
    ("change", "field", "kind"),
    [
        (lambda records: [records[0] | {"text": "hellO"}, records[1]], "websocket", DifferenceKind.WRONG),
        (lambda records: [*records, records[0]], "websocket", DifferenceKind.WRONG),
        (lambda records: records[:1], "websocket", DifferenceKind.MISSING),
        (lambda records: [records[0] | {"from": "server"}, records[1]], "websocket", DifferenceKind.WRONG),
        (
            lambda records: [records[0] | {"deflated": True, "text": None}, records[1]],
            "websocket",
            DifferenceKind.WRONG,
        ),
        (lambda records: [records[0] | {"ts": 1.0}, records[1]], "ts", DifferenceKind.WRONG),
        (lambda records: [records[0] | {"pod_ip": "10.244.0.9"}, records[1]], "pod_ip", DifferenceKind.WRONG),
        (lambda records: [records[0] | {"direction": "outbound"}, records[1]], "direction", DifferenceKind.WRONG),
        (lambda records: [records[0] | {"dst": "192.0.2.1:80"}, records[1]], "dst", DifferenceKind.WRONG),
        (lambda records: [records[0] | {"netns": 1}, records[1]], "netns", DifferenceKind.WRONG),
    ],
)
def test_faults_in_websocket_messages_are_found(
    world: World, change: Callable[[list[Record]], list[Record]], field: str, kind: DifferenceKind
) -> None:
    differences = world.judged(world.question(others=change(world.sockets)))
    assert (kind, field) in {(each.kind, each.field) for each in differences}


@pytest.mark.parametrize("word", ["node", "wire"])
def test_what_was_seen_between_others_than_pods_is_not_compared(world: World, word: str) -> None:
    """The kit has recordings of pods only. `wire` is the older word for `node`."""
    outside = world.records[0] | {"direction": word, "target": "/never/sent"}
    between_others = outside | {"src": "192.0.2.1:40000", "dst": "192.0.2.2:80", "pod_ip": None}
    assert said(world.judged(world.question([*world.records, between_others], others=world.sockets))) == []
    kinds = [each.kind for each in world.judged(world.question([*world.records, outside], others=world.sockets))]
    assert kinds == [DifferenceKind.INVENTED]


def test_a_difference_is_told_in_words(world: World) -> None:
    records: list[dict[str, Any]] = copy.deepcopy(world.records)
    record = next(record for record in records if record["status"] == 213)
    record["direction"] = "inbound"
    (difference,) = world.judged(world.question(records))
    assert str(difference) == (
        f"HTTP/1.1 GET {record['target']} -> 213, outbound at pod pod-1, {record['src']} > 127.0.0.1:15001: "
        "expected direction outbound; seen: inbound"
    )


def test_a_recording_that_lost_packets_proves_no_invention(world: World) -> None:
    """What is told of that pod may have been among the lost packets; what is told of the other pod was not."""
    question = world.question()
    invented = [
        replace(record, target=f"/orders/nonce-{index:032x}", src=f"127.0.0.9:{50000 + index}")
        for index, record in enumerate(question.seen)
        if record.pod_ip is not None
    ]
    asked = replace(question, seen=[*question.seen, *invented])
    pods = [expectation.read_pod(truth) for truth in world.truths()]
    blind = [replace(pod, truth=replace(pod.truth, lost=pod.truth.name == "pod-1")) for pod in pods]

    def accused(differences: Iterable[Difference]) -> set[str]:
        return {each.record["pod_ip"] for each in differences if each.kind is DifferenceKind.INVENTED and each.record}

    assert accused(answer(asked, pods)) == {str(pod.ipv4) for pod in world.pods}
    assert accused(answer(asked, blind)) == {str(world.pods[1].ipv4)}
