"""When a wild mutant is wrong: conditions over records. Pure.

A condition is asked about every record of a run, in order, and remembers what it needs; `http` records are what it
answers for. Whatever it is asked, it reads documented fields alone (tapper/output/ndjson.schema.json).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from harness.conformance.mutants.streams import Record, connection, header

Holds: TypeAlias = Callable[[Record], bool]
"""Whether the fault is in this record."""
Condition: TypeAlias = Callable[[], Holds]
"""Makes one for a run."""

_LONG_BODY = 16 << 10
_LONG_HEAD = 8 << 10
_LONG_TARGET = 1000
_USUAL_PORTS = ("8080", "18080")
_LOAD_RECORDS, _LOAD_S = 50, 0.1
_LATE_S = 5.0
_QUIET_S = 1.0
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


def _after(count: int) -> Condition:
    """From one record on: those before are right."""

    def begin() -> Holds:
        told = 0

        def holds(record: Record) -> bool:
            nonlocal told
            told += int(record["type"] == "http")
            return told > count

        return holds

    return begin


def _every(step: int) -> Condition:
    def begin() -> Holds:
        told = 0

        def holds(record: Record) -> bool:
            nonlocal told
            told += int(record["type"] == "http")
            return bool(record["type"] == "http" and told % step == 0)

        return holds

    return begin


def _on_connection(first: int) -> Condition:
    """From the `first` exchange of a connection on."""

    def begin() -> Holds:
        told: Counter[tuple[object, ...]] = Counter()

        def holds(record: Record) -> bool:
            if record["type"] != "http":
                return False
            told[connection(record)] += 1
            return told[connection(record)] >= first

        return holds

    return begin


def _with_pods(count: int) -> Condition:
    """From the moment on in which so many pods are captured in."""

    def begin() -> Holds:
        pods: set[int] = set()

        def holds(record: Record) -> bool:
            if record["type"] == "source" and record["kind"] == "pod":
                (pods.add if record["state"] == "open" else pods.discard)(record["netns"])
            return len(pods) >= count

        return holds

    return begin


def _pod_number(number: int) -> Condition:
    """In the pod that was the first, the second, … to be captured in."""

    def begin() -> Holds:
        pods: list[int] = []

        def holds(record: Record) -> bool:
            if record["type"] == "source" and record["kind"] == "pod" and record["netns"] not in pods:
                pods.append(record["netns"])
            return record["type"] == "http" and pods[number - 1 : number] == [record["netns"]]

        return holds

    return begin


def _once(has_come: Callable[[], Holds]) -> Condition:
    """For everything after something has come."""

    def begin() -> Holds:
        come, is_it = False, has_come()

        def holds(record: Record) -> bool:
            nonlocal come
            before, come = come, come or is_it(record)
            return before

        return holds

    return begin


def _opened_again() -> Holds:
    opened: set[int] = set()

    def again(record: Record) -> bool:
        if record["type"] != "source" or record["state"] != "open" or record["kind"] != "pod":
            return False
        known = record["netns"] in opened
        opened.add(record["netns"])
        return known

    return again


def _acknowledged_twice() -> Holds:
    seen: list[int] = []

    def second(record: Record) -> bool:
        if record["type"] == "ack":
            seen.append(record["generation"])
        return len(seen) > 1

    return second


def _under_load() -> Holds:
    times: deque[float] = deque(maxlen=_LOAD_RECORDS)

    def holds(record: Record) -> bool:
        if record["type"] != "http":
            return False
        times.append(record["ts"])
        return len(times) == _LOAD_RECORDS and abs(times[-1] - times[0]) < _LOAD_S

    return holds


def _after_quiet() -> Holds:
    before: list[float] = []

    def holds(record: Record) -> bool:
        if record["type"] != "http":
            return False
        quiet = bool(before and record["ts"] - before[-1] > _QUIET_S)
        before[:] = [record["ts"]]
        return quiet

    return holds


def _late() -> Holds:
    first: list[float] = []

    def holds(record: Record) -> bool:
        if record["type"] != "http":
            return False
        first[:] = first or [record["ts"]]
        return bool(record["ts"] - first[0] > _LATE_S)

    return holds


def _overlapping() -> Holds:
    """The request was there before the exchange before it on its connection was over."""
    ends: dict[tuple[object, ...], float] = {}

    def holds(record: Record) -> bool:
        if record["type"] != "http":
            return False
        key = connection(record)
        overlaps = bool(record["ts"] < ends.get(key, 0.0))
        ends[key] = max(ends.get(key, 0.0), record["ts"] + (record["duration_s"] or 0.0))
        return overlaps

    return holds


def _second_leg(*, same_pod: bool) -> Condition:
    """The same request was told before, of its other leg."""

    def begin() -> Holds:
        legs: dict[str, tuple[object, object]] = {}

        def holds(record: Record) -> bool:
            if record["type"] != "http" or record["target"] is None:
                return False
            leg = (record["pod_ip"], record["direction"])
            other = legs.setdefault(record["target"], leg)
            return other != leg and (not same_pod or other[0] == leg[0])

        return holds

    return begin


def _many_connections() -> Holds:
    known: set[tuple[object, ...]] = set()

    def holds(record: Record) -> bool:
        if record["type"] == "http":
            known.add(connection(record))
        return len(known) > _LOAD_RECORDS

    return holds


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
        "only-second-leg": _second_leg(same_pod=False),
        "only-to-itself": _second_leg(same_pod=True),
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
        "after-5": _after(5),
        "after-20": _after(20),
        "after-100": _after(100),
        "every-7th": _every(7),
        "from-2nd-of-connection": _on_connection(2),
        "from-5th-of-connection": _on_connection(5),
        "from-20th-of-connection": _on_connection(20),
        "with-2-pods": _with_pods(2),
        "with-3-pods": _with_pods(3),
        "only-1st-pod": _pod_number(1),
        "only-2nd-pod": _pod_number(2),
        "only-3rd-pod": _pod_number(3),
        "with-many-connections": _many_connections,
        # when
        "under-load": _under_load,
        "after-quiet": _after_quiet,
        "after-5-seconds": _late,
        "only-slow": _simple(lambda record: (record["duration_s"] or 0) > _QUIET_S),
        "only-overlapping": _overlapping,
        "after-update": _once(_acknowledged_twice),
        "after-reopening": _once(_opened_again),
        "after-closing": _once(lambda: lambda record: record["type"] == "source" and record["state"] == "closed"),
        "after-upgrade": _once(lambda: lambda record: record["type"] == "websocket"),
        "after-unreadable": _once(lambda: lambda record: record["type"] == "stream"),
    }
)
"""By name. A name says in which records the fault is."""


def flagged(conditions: Iterable[Condition]) -> Holds:
    """Asks fresh conditions about every record, and says whether the fault is in it: where all of them hold, and never
    in a record that tells of no traffic."""
    asked = [condition() for condition in conditions]

    def in_fault(record: Record) -> bool:
        answers = [holds(record) for holds in asked]  # each of them has to see every record
        return all(answers) and record["type"] in _TELLING

    return in_fault
