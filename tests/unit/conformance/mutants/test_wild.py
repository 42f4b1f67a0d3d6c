"""Rules of being wrong under conditions, and the hunt for those that no case finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from told_records import OTHER, POD, Record, http, message, socket_message, source

from harness.conformance import hunt
from harness.conformance.model import Charge, Outcome, Result
from harness.conformance.mutants import wild
from harness.conformance.mutants.catalogue import all_mutants, named
from harness.conformance.mutants.conditions import CONDITIONS
from harness.conformance.mutants.rules import RULES
from harness.conformance.mutants.streams import written

CALL = {"service": "shop", "method": "a", "status": 0, "message": ""}
RUN = [
    {"type": "hello"},
    source(POD),
    *(http(number, grpc=CALL) for number in range(4)),
    http(0, request=message(headers=[["Host", "a"]]), src="127.0.0.6:40002"),
    socket_message(),
    {"type": "bye"},
]
TWO = [source(POD), source(OTHER)]


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_changes_an_ordinary_run(rule: str) -> None:
    assert wild.changes(f"{rule}+always", RUN)


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_changes_a_run_in_which_its_condition_never_holds(rule: str) -> None:
    assert not wild.changes(f"{rule}+only-ipv6", RUN)


HOLDS: Mapping[str, tuple[Sequence[Record], int]] = {
    "always": (RUN, 6),
    "only-ipv4": ([http(), http(src="[::6]:1")], 1),
    "only-ipv6": ([http(), http(src="[::6]:1")], 1),
    "only-http1": ([http(), http(version="HTTP/2")], 1),
    "only-http2": ([http(), http(version="HTTP/2")], 1),
    "only-inbound": ([http(), http(direction="node")], 1),
    "only-outbound": ([http(), http(direction="outbound")], 1),
    "only-localhost": ([http(), http(src="127.0.0.1:5"), http(src="[::1]:5")], 2),
    "only-443": ([http(), http(dst="10.0.0.1:443"), http(dst="10.0.0.1:8443")], 1),
    "only-other-ports": ([http(), http(dst="10.0.0.1:443")], 1),
    "only-second-leg": ([http(), http(), http(direction="outbound"), http(pod_ip="10.244.0.3")], 2),
    "only-to-itself": ([http(), http(), http(direction="outbound"), http(pod_ip="10.244.0.3")], 1),
    "only-post": ([http(), http(method="POST")], 1),
    "only-other-methods": ([http(), http(method="POST"), http(method="HEAD"), http(method=None)], 1),
    "only-with-query": ([http(), http(target="/a?b"), http(target=None)], 1),
    "only-long-targets": ([http(), http(target="/" + "a" * 1000)], 1),
    "only-refused": ([http(), http(status=404), http(status=500), http(status=None)], 1),
    "only-failed": ([http(), http(status=404), http(status=500), http(status=None)], 1),
    "only-unanswered": ([http(), http(response=None)], 1),
    "only-empty": ([http(), http(response=message(body=b"")), http(response=None)], 1),
    "only-long-bodies": ([http(), http(response=message(body_size=1 << 15))], 1),
    "only-sent-bodies": ([http(request=message(body=b"")), http(), http(request=None)], 1),
    "only-chunked": ([http(), http(response=message(headers=[["Transfer-Encoding", "chunked"]]))], 1),
    "only-long-heads": ([http(), http(request=message(headers=[["A", "b" * 9000]]))], 1),
    "only-repeated-fields": ([http(), http(request=message(headers=[]), response=message(headers=[]))], 1),
    "only-trailers": ([http(), http(response=message(trailers=[]))], 1),
    "only-grpc": ([http(), http(grpc=CALL)], 1),
    "after-5": ([http(number) for number in range(8)], 3),
    "after-20": ([http(number) for number in range(22)], 2),
    "after-100": ([http(number) for number in range(101)], 1),
    "every-7th": ([http(number) for number in range(15)], 2),
    "from-2nd-of-connection": ([http(), http(src="127.0.0.6:2"), http()], 1),
    "from-5th-of-connection": ([http(src="127.0.0.6:2"), *[http()] * 6], 2),
    "from-20th-of-connection": ([*[http()] * 20, http(src="127.0.0.6:2")], 1),
    "with-2-pods": ([source(POD), http(), source(OTHER), http(), source(OTHER, "closed"), http()], 1),
    "with-3-pods": ([*TWO, http(), source(333), http(), http()], 2),
    "only-1st-pod": ([*TWO, http(), http(netns=OTHER)], 1),
    "only-2nd-pod": ([*TWO, http(), http(), http(netns=OTHER)], 1),
    "only-3rd-pod": ([*TWO, source(333), http(), http(netns=333)], 1),
    "with-many-connections": ([http(src=f"127.0.0.6:{port}") for port in range(1, 33)], 2),
    "under-load": ([http(ts=1000 + number / 1000) for number in range(52)], 3),
    "after-quiet": ([http(), http(ts=1000.5), http(ts=1002.0)], 1),
    "after-5-seconds": ([http(), http(4), http(6)], 1),
    "only-slow": ([http(), http(duration_s=1.5), http(duration_s=None)], 1),
    "only-overlapping": ([http(duration_s=1.0), http(ts=1000.5), http(ts=1000.6, src="127.0.0.6:2")], 1),
    "after-update": ([{"type": "ack", "generation": 1}, http(), {"type": "ack", "generation": 2}, http()], 1),
    "after-reopening": ([source(POD), http(), source(POD, "closed"), source(POD), http()], 1),
    "after-closing": ([source(POD), http(), source(POD, "closed"), http()], 1),
    "after-upgrade": ([http(), socket_message(), http()], 1),
    "after-unreadable": ([http(), {"type": "stream"}, http()], 1),
}


def test_every_condition_is_tried_here() -> None:
    assert list(HOLDS) == list(CONDITIONS)


@pytest.mark.parametrize("condition", HOLDS)
def test_a_condition_holds_where_its_name_says(condition: str) -> None:
    run, times = HOLDS[condition]
    mutant = wild.mutant(f"repeat+{condition}")
    (change,) = mutant.fault.records
    told = [record for record in change(iter(run)) if record["type"] == "http"]
    sockets = sum(record["type"] == "websocket" for record in run) if condition == "always" else 0
    assert len(told) - sum(record["type"] == "http" for record in run) == times - sockets


def test_several_conditions_have_to_hold_together() -> None:
    name = "drop+only-ipv6+after-5"
    assert wild.is_wild(name)
    assert not wild.is_wild("drop")
    assert not wild.is_wild("drop+only-ipv6+never")
    ipv6 = {"src": "[::6]:1"}
    run = [http(), *(http(number, **ipv6) for number in range(4)), http(7), http(8, **ipv6)]
    (change,) = named(name).fault.records
    assert list(change(iter(run))) == run[:-1]


def test_there_are_many_and_each_has_one_name() -> None:
    everything = wild.names()
    assert len(everything) == len(set(everything)) >= 400
    assert not set(everything) & set(all_mutants())
    assert all(named(name).name == name for name in everything[:50])


def test_a_sample_is_the_same_for_its_seed() -> None:
    assert wild.sample(40, 7) == wild.sample(40, 7) != wild.sample(40, 8)
    assert len(set(wild.sample(40, 7))) == 40
    assert wild.sample(10**6, 1) == wild.names()


def test_no_rule_is_a_mutants_name() -> None:
    """`drop+only-ipv6` is a rule and a condition, `outgoing-copy+not-443` are two mutants."""
    assert not set(RULES) & set(all_mutants())
    assert [each.name for each in (named("outgoing-copy+not-443"), named("drop+only-ipv6"))] == [
        "outgoing-copy+not-443",
        "drop+only-ipv6",
    ]


def test_a_combination_is_tried_where_it_changes_something_and_until_it_is_found() -> None:
    runs = {"CAP-01": [[http()]], "CAP-10": [[http(src="[::6]:1")]], "CAP-11": [[http(), http()]]}
    asked: list[tuple[str, str]] = []

    def attempt(pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Result]:
        asked.extend(pairs)
        charge = Charge(("CAP-03", "CAP-10"), "CAP-10", "once", "twice")
        found = {
            ("repeat+only-ipv6", "CAP-10"): Result("CAP-10", Outcome.PASS, charges=(charge,)),
            ("drop+only-ipv4", "CAP-11"): Result("CAP-11", Outcome.FAIL),
        }
        return {pair: found.get(pair, Result(pair[1], Outcome.PASS)) for pair in pairs}

    names = ["repeat+only-ipv6", "drop+only-ipv4", "drop+only-http2", "drop+only-inbound"]
    verdicts = {each.name: each for each in hunt.hunt(names, runs, {"CAP-11": 2.0, "CAP-10": 3.0}, attempt)}
    assert verdicts["repeat+only-ipv6"] == hunt.WildVerdict("repeat+only-ipv6", ("CAP-10",), "CAP-10")
    assert verdicts["drop+only-ipv4"] == hunt.WildVerdict("drop+only-ipv4", ("CAP-01", "CAP-11"), "CAP-11")
    assert verdicts["drop+only-http2"] == hunt.WildVerdict("drop+only-http2", (), None)
    assert not verdicts["drop+only-http2"].survived
    assert verdicts["drop+only-inbound"].survived
    assert ("repeat+only-ipv6", "CAP-01") not in asked
    assert {line.split()[0]: line.split()[1:] for line in hunt.table(list(verdicts.values()))[3:]} == {
        "only-ipv4": ["F"],
        "only-ipv6": ["F"],
        "only-http2": ["-"],
        "only-inbound": ["."],
    }


def test_another_order_alone_changes_nothing() -> None:
    """Of two exchanges that would be exchanged, the second never comes: the first is told last, and told right."""
    assert not wild.changes("swap+every-7th", [http(number) for number in range(9)])
    assert wild.changes("swap+every-7th", [http(number) for number in range(14)])


def test_what_the_reference_wrote_is_read_from_the_evidence(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "CAP-01" / f"tap-{number}").mkdir(parents=True)
        (tmp_path / "CAP-01" / f"tap-{number}" / "stdout").write_bytes(written(http(number)))
    runs = hunt.runs_of(tmp_path)
    assert runs == {"CAP-01": [[http(1)], [http(2)]]}
    assert "only-ipv6" in hunt.unreached(runs)
    assert "only-ipv4" not in hunt.unreached(runs)
