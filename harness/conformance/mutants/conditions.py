"""When a wild mutant is wrong: conditions over records. Pure.

A condition is asked about every record of a run, in order, and remembers what it needs; `http` records are what it
answers for. Whatever it is asked, it reads documented fields alone (tapper/output/ndjson.schema.json).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from harness.conformance.mutants import occasions
from harness.conformance.mutants.occasions import Condition, Holds
from harness.conformance.mutants.streams import Record, header

_LONG_BODY = 16 << 10
_LONG_HEAD = 8 << 10
_LONG_TARGET = 1000
_USUAL_PORTS = ("8080", "18080")
_SLOW_S = 1.0
_TELLING = ("http", "websocket")


def _simple(holds: Holds) -> Condition:
    """A condition that looks at one record alone."""
    return lambda: lambda record: bool(record["type"] == "http" and holds(record))


def _of_leg(holds: Holds) -> Condition:
    """The same for what every record of traffic has: pod, direction, ends."""
    return lambda: lambda record: record["type"] in _TELLING and holds(record)


def _answer(record: Record, name: str, default: Any) -> Any:
    return default if record["response"] is None else record["response"][name]


def _asked(record: Record, name: str, default: Any) -> Any:
    return default if record["request"] is None else record["request"][name]


def _host(end: str) -> str:
    return end.rpartition(":")[0]


def _port(end: str) -> str:
    return end.rpartition(":")[2]


def _head_size(message: Record | None) -> int:
    fields = [] if message is None else message["headers"]
    return sum(len(name) + len(value) + 4 for name, value in fields)


def _repeats_a_name(message: Record | None) -> bool:
    names = [name.lower() for name, _ in ([] if message is None else message["headers"])]
    return len(names) != len(set(names))


CONDITIONS: Mapping[str, Condition] = MappingProxyType(
    {
        "always": _of_leg(lambda _record: True),
        # what is spoken, and where
        "only-ipv4": _of_leg(lambda record: not record["src"].startswith("[")),
        "only-ipv6": _of_leg(lambda record: record["src"].startswith("[")),
        "only-http1": _simple(lambda record: record["version"] == "HTTP/1.1"),
        "only-http2": _simple(lambda record: record["version"] == "HTTP/2"),
        "only-inbound": _of_leg(lambda record: record["direction"] == "inbound"),
        "only-outbound": _of_leg(lambda record: record["direction"] == "outbound"),
        "only-localhost": _of_leg(lambda record: _host(record["src"]) in ("127.0.0.1", "[::1]")),
        "only-443": _of_leg(lambda record: _port(record["dst"]) == "443"),
        "only-other-ports": _of_leg(lambda record: _port(record["dst"]) not in _USUAL_PORTS),
        "only-second-leg": occasions.second_leg(same_pod=False),
        "only-to-itself": occasions.second_leg(same_pod=True),
        # what is in a message
        "only-post": _simple(lambda record: record["method"] == "POST"),
        "only-other-methods": _simple(lambda record: record["method"] not in ("GET", "POST", None)),
        "only-with-query": _simple(lambda record: "?" in (record["target"] or "")),
        "only-long-targets": _simple(lambda record: len(record["target"] or "") > _LONG_TARGET),
        "only-refused": _simple(lambda record: 400 <= (record["status"] or 0) < 500),
        "only-failed": _simple(lambda record: (record["status"] or 0) >= 500),
        "only-unanswered": _simple(lambda record: record["response"] is None),
        "only-empty": _simple(lambda record: _answer(record, "body_size", 1) == 0),
        "only-long-bodies": _simple(lambda record: _answer(record, "body_size", 0) > _LONG_BODY),
        "only-sent-bodies": _simple(lambda record: _asked(record, "body_size", 0) > 0),
        "only-chunked": _simple(lambda record: bool(header(record["response"], "transfer-encoding"))),
        "only-long-heads": _simple(
            lambda record: max(_head_size(record["request"]), _head_size(record["response"])) > _LONG_HEAD
        ),
        "only-repeated-fields": _simple(
            lambda record: _repeats_a_name(record["request"]) or _repeats_a_name(record["response"])
        ),
        "only-trailers": _simple(lambda record: bool(_answer(record, "trailers", []))),
        "only-grpc": _simple(lambda record: bool(record.get("grpc"))),
        # how many there were
        "after-5": occasions.after(5),
        "after-20": occasions.after(20),
        "after-100": occasions.after(100),
        "every-7th": occasions.every(7),
        "from-2nd-of-connection": occasions.on_connection(2),
        "from-5th-of-connection": occasions.on_connection(5),
        "from-20th-of-connection": occasions.on_connection(20),
        "with-2-pods": occasions.with_pods(2),
        "with-3-pods": occasions.with_pods(3),
        "only-1st-pod": occasions.pod_number(1),
        "only-2nd-pod": occasions.pod_number(2),
        "only-3rd-pod": occasions.pod_number(3),
        "with-many-connections": occasions.many_connections,
        # when
        "under-load": occasions.under_load,
        "after-quiet": occasions.after_quiet,
        "after-5-seconds": occasions.late,
        "only-slow": _simple(lambda record: (record["duration_s"] or 0) > _SLOW_S),
        "only-overlapping": occasions.overlapping,
        "after-update": occasions.once(occasions.acknowledged_twice),
        "after-reopening": occasions.once(occasions.opened_again),
        "after-closing": occasions.once(
            lambda: lambda record: record["type"] == "source" and record["state"] == "closed"
        ),
        "after-upgrade": occasions.once(lambda: lambda record: record["type"] == "websocket"),
        "after-unreadable": occasions.once(lambda: lambda record: record["type"] == "stream"),
    }
)
"""By name. A name says in which records the fault is."""
_OF_ALL_TRAFFIC = frozenset(
    {"always", "only-ipv4", "only-ipv6", "only-inbound", "only-outbound", "only-localhost", "only-443"}
    | {"only-other-ports", "after-5", "after-20", "after-100", "with-2-pods", "with-3-pods", "after-update"}
    | {"after-reopening", "after-closing", "after-upgrade", "after-unreadable"}
)
"""The conditions that can hold in a record of type `websocket`, too."""
OF_EXCHANGES = frozenset(CONDITIONS) - _OF_ALL_TRAFFIC
"""The conditions that hold in records of type `http` alone."""


def flagged(conditions: Iterable[Condition]) -> Holds:
    """Asks fresh conditions about every record, and says whether the fault is in it: where all of them hold, and never
    in a record that tells of no traffic."""
    asked = [condition() for condition in conditions]

    def in_fault(record: Record) -> bool:
        answers = [holds(record) for holds in asked]  # each of them has to see every record
        return all(answers) and record["type"] in _TELLING

    return in_fault
