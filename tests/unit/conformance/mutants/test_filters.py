"""What mutants make of records and of lists of targets. That their cases find them: test_catalogue.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from told_records import OTHER, Record, bye, http, message, socket_message, source, unanswered, unasked, unreadable

from harness.conformance.mutants.catalogue import all_mutants
from harness.conformance.mutants.model import MutantEndsError, TargetsDocument

GONE = 1 << 30
"""No process has this number."""
ANYTHING: list[Record] = [
    {"type": "hello", "pid": 7},
    {"type": "source", "state": "open", "kind": "node", "netns": 1, "pid": None, "instance_ip": None},
    source(pid=GONE),
    {"type": "ack", "generation": 1},
    http(),
    http(1, version="HTTP/2", direction="node", pod_ip=None, mtls=False),
    http(2, src="[::6]:4", direction="outbound", netns=None, pod={"namespace": "a", "name": "b"}),
    unasked(3),
    unanswered(4, version=None),
    socket_message(),
    socket_message(text="", **{"from": "server"}) | {"text": None},
    socket_message() | {"type": "tls", "sni": None, "alpn": []},
    unreadable("http2"),
    source(state="closed", pid=GONE),
    {"type": "stat", "received": 1, "dropped": 0},
    bye(),
]
FILTERING = [each for each in all_mutants().values() if each.fault.records]


def told(name: str, records: Sequence[Record]) -> list[Record]:
    """What a mutant writes in place of these."""
    changed: Iterator[Record] = iter(records)
    for change in all_mutants()[name].fault.records:
        changed = change(changed)
    return list(changed)


@pytest.mark.parametrize("mutant", FILTERING, ids=lambda mutant: str(mutant.name))
def test_no_filter_stumbles_over_what_is_missing(mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every kind of record one comes with as little in it as the schema allows; the run's end stays its end."""
    monkeypatch.setenv("TAPPER_HARNESS_PROCFS", "/proc")
    assert told(mutant.name, ANYTHING)[-1]["type"] == "bye"


@pytest.mark.parametrize("name", ["dies-of-garbage", "dies-of-nonsense"])
def test_a_connection_that_cannot_be_read_ends_it(name: str) -> None:
    with pytest.raises(MutantEndsError):
        told(name, [http(), unreadable(), http()])


def statuses(records: Sequence[Record]) -> list[object]:
    return [record["status"] for record in records]


def test_answers_of_pipelined_requests_go_to_the_latest() -> None:
    apart = [http(0), http(2), http(4)]
    assert told("latest-first", apart) == apart
    assert statuses(told("latest-first", [http(number, duration_s=5.0) for number in range(3)])) == [200, 200, 201]


def test_streams_are_paired_in_order_as_if_they_were_one_queue() -> None:
    first, second = http(0, version="HTTP/2"), http(1, version="HTTP/2")
    assert told("one-queue", [first, second]) == [first, second]
    assert statuses(told("one-queue", [second, first])) == [201, 201]
    assert statuses(told("one-queue", [http(1), http(0)])) == [201, 200]  # HTTP/1


def test_what_is_in_the_table_is_not_told_again() -> None:
    records = told("no-header-table", [http(number, version="HTTP/2") for number in range(2)])
    assert [len(record["request"]["headers"]) for record in records] == [3, 0]
    assert told("no-header-table", [http(), http(1)]) == [http(), http(1)]


def test_after_half_an_exchange_answers_are_one_question_late() -> None:
    records = told("pairs-through-loss", [http(0), unanswered(1), http(2), http(3), http(4, src="127.0.0.6:9")])
    assert statuses(records) == [200, None, None, 202, 204]
    assert statuses(told("pairs-through-loss", [unasked(0), http(1), http(2)])) == [200, 200, 201]


def test_nothing_is_read_behind_what_it_does_not_know_the_end_of() -> None:
    chunked = http(1, response=message(headers=[["transfer-encoding", "chunked"]]))
    elsewhere = http(2, src="127.0.0.6:9")
    assert told("raw-chunks", [http(), chunked, http(2), elsewhere]) == [http(), chunked, elsewhere]
    head = http(1, method="HEAD")
    assert told("body-of-head", [head, http(2), elsewhere]) == [head, elsewhere]
    long = http(1, request=message(headers=[["a", "b" * 9000]]))
    assert told("short-heads", [http(), long, http(2), elsewhere]) == [http(), elsewhere]


def test_a_message_that_looks_like_a_request_is_told_as_one() -> None:
    asked = socket_message("GET /inner HTTP/1.1\r\nHost: a\r\n\r\n")
    records = told("never-upgraded", [socket_message(), asked])
    assert [(record["type"], record.get("target")) for record in records[2:]] == [("http", "/inner")]


def test_copies_are_told_by_their_request_line() -> None:
    other_pod = http(pod_ip="10.244.0.3")
    assert told("once-by-content", [http(), http(), other_pod]) == [http()]
    assert told("once-in-a-pod", [http(), http(), other_pod]) == [http(), other_pod]


def test_what_was_seen_before_is_told_again() -> None:
    again = [source(), http(0), source(state="closed"), source(), http(1)]
    assert statuses([record for record in told("tells-again", again) if record["type"] == "http"]) == [200, 200, 201]


@pytest.mark.parametrize(
    ("name", "records"),
    [
        ("opens-once", [source(), http(0), source(state="closed"), source(), http(1)]),
        ("where-it-was", [source(), http(0), source(OTHER), http(1, netns=OTHER)]),
        ("remembers-pids", [source(), http(0), source(OTHER, address="10.244.0.3"), http(1, netns=OTHER)]),
    ],
)
def test_a_pod_that_it_does_not_look_into_again(name: str, records: list[Record]) -> None:
    assert statuses([record for record in told(name, records) if record["type"] == "http"]) == [200]


def test_a_source_ends_with_the_process_that_it_was_found_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPPER_HARNESS_PROCFS", "/proc")
    gone = [source(pid=GONE), http(), source(OTHER, pid=1), http(netns=OTHER)]
    assert [record["netns"] for record in told("dies-with-the-first", gone) if record["type"] == "http"] == [OTHER]


def test_drops_are_hidden_or_invented() -> None:
    assert told("hides-drops", [http(), bye()]) == [http(), bye() | {"dropped": 0}]
    assert told("counts-too-much", [bye()])[0]["dropped"] > 10**6


# -- lists of targets ------------------------------------------------------------------------------------------------


def document(generation: int, *names: str) -> TargetsDocument:
    pods = [{"uid": name, "namespace": "a", "name": name, "ips": [f"10.0.0.{name}", f"fd00::{name}"]} for name in names]
    return {"generation": generation, "pods": pods}


def given(name: str, *documents: TargetsDocument) -> tuple[list[tuple[int, list[str]]], list[Record]]:
    """What the reference gets in place of these, by the pods' names, and what is told meanwhile."""
    said: list[Record] = []
    (change,) = all_mutants()[name].fault.targets
    changed = change(iter(documents), said.append)
    return [(each["generation"], [pod["name"] for pod in each["pods"]]) for each in changed], said


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adds-nothing", [(1, ["1", "2"]), (2, ["2"]), (3, []), (4, [])]),
        ("removes-nothing", [(1, ["1", "2"]), (2, ["1", "2", "3"]), (3, []), (4, ["1", "2", "3"])]),
        ("empty-ignored", [(1, ["1", "2"]), (2, ["2", "3"]), (3, ["2", "3"]), (4, ["3"])]),
        ("leaks-threads", [(1, ["1", "2"]), (2, ["2", "3"]), (3, []), (4, ["3"])]),
        ("begins-anew", [(1, ["1", "2"]), (2, []), (2, ["2", "3"]), (3, []), (3, []), (4, []), (4, ["3"])]),
        ("not-so-fast", [(1, ["1", "2"])]),
    ],
)
def test_another_list_than_the_kits(name: str, expected: list[tuple[int, list[str]]]) -> None:
    lists = (document(1, "1", "2"), document(2, "2", "3"), document(3), document(4, "3"))
    assert given(name, *lists) == (expected, [])


def test_a_list_is_acknowledged_before_it_is_given() -> None:
    assert given("acknowledges-first", document(1, "1"), document(2, "2"))[1] == [{"type": "ack", "generation": 2}]


def test_a_pod_has_one_address() -> None:
    (change,) = all_mutants()["first-address"].fault.targets
    (changed,) = change(iter([document(1, "1")]), lambda _record: None)
    assert [pod["ips"] for pod in changed["pods"]] == [["10.0.0.1"]]
