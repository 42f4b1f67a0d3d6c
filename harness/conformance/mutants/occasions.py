"""Conditions that depend on the records before: how many there were, what has come, how fast. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import TypeAlias

from harness.conformance.mutants.streams import Record, connection

Holds: TypeAlias = Callable[[Record], bool]
"""Whether the fault is in this record."""
Condition: TypeAlias = Callable[[], Holds]
"""Makes one for a run."""

_LOAD_RECORDS, _LOAD_S = 50, 0.1
_MANY_CONNECTIONS = 30
_LATE_S = 5.0
_QUIET_S = 1.0


def after(count: int) -> Condition:
    """From one record on: those before are right."""

    def begin() -> Holds:
        told = 0

        def holds(record: Record) -> bool:
            nonlocal told
            told += int(record["type"] == "http")
            return told > count

        return holds

    return begin


def every(step: int) -> Condition:
    def begin() -> Holds:
        told = 0

        def holds(record: Record) -> bool:
            nonlocal told
            told += int(record["type"] == "http")
            return bool(record["type"] == "http" and told % step == 0)

        return holds

    return begin


def on_connection(first: int) -> Condition:
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


def with_pods(count: int) -> Condition:
    """From the moment on in which so many pods are captured in."""

    def begin() -> Holds:
        pods: set[int] = set()

        def holds(record: Record) -> bool:
            if record["type"] == "source" and record["kind"] == "pod":
                (pods.add if record["state"] == "open" else pods.discard)(record["netns"])
            return len(pods) >= count

        return holds

    return begin


def pod_number(number: int) -> Condition:
    """In the pod that was the first, the second, … to be captured in."""

    def begin() -> Holds:
        pods: list[int] = []

        def holds(record: Record) -> bool:
            if record["type"] == "source" and record["kind"] == "pod" and record["netns"] not in pods:
                pods.append(record["netns"])
            return record["type"] == "http" and pods[number - 1 : number] == [record["netns"]]

        return holds

    return begin


def once(has_come: Callable[[], Holds]) -> Condition:
    """For everything after something has come."""

    def begin() -> Holds:
        come, is_it = False, has_come()

        def holds(record: Record) -> bool:
            nonlocal come
            before, come = come, come or is_it(record)
            return before

        return holds

    return begin


def opened_again() -> Holds:
    opened: set[int] = set()

    def again(record: Record) -> bool:
        if record["type"] != "source" or record["state"] != "open" or record["kind"] != "pod":
            return False
        known = record["netns"] in opened
        opened.add(record["netns"])
        return known

    return again


def acknowledged_twice() -> Holds:
    seen: list[int] = []

    def second(record: Record) -> bool:
        if record["type"] == "ack":
            seen.append(record["generation"])
        return len(seen) > 1

    return second


def under_load() -> Holds:
    times: deque[float] = deque(maxlen=_LOAD_RECORDS)

    def holds(record: Record) -> bool:
        if record["type"] != "http":
            return False
        times.append(record["ts"])
        return len(times) == _LOAD_RECORDS and abs(times[-1] - times[0]) < _LOAD_S

    return holds


def after_quiet() -> Holds:
    before: list[float] = []

    def holds(record: Record) -> bool:
        if record["type"] != "http":
            return False
        quiet = bool(before and record["ts"] - before[-1] > _QUIET_S)
        before[:] = [record["ts"]]
        return quiet

    return holds


def late() -> Holds:
    first: list[float] = []

    def holds(record: Record) -> bool:
        if record["type"] != "http":
            return False
        first[:] = first or [record["ts"]]
        return bool(record["ts"] - first[0] > _LATE_S)

    return holds


def overlapping() -> Holds:
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


def second_leg(*, same_pod: bool) -> Condition:
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


def many_connections() -> Holds:
    known: set[tuple[object, ...]] = set()

    def holds(record: Record) -> bool:
        if record["type"] == "http":
            known.add(connection(record))
        return len(known) > _MANY_CONNECTIONS

    return holds
