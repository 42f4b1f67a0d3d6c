"""Broken in what is told of an exchange: each rewrites the records that the reference is about to write."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from harness.conformance.mutants.model import Mutant
from tapper.output.ndjson import Ndjson
from tapper.output.records import Place
from tapper.protocols.session import Sighting

Record = dict[str, Any]

_USUAL_METHODS = {"GET", "POST", "PUT", "DELETE", "HEAD"}
_USUAL_PORTS = {"80", "443", "8080", "18080"}


def _retell(change: Callable[[Record], Record | None], *, times: Callable[[Record], int] = lambda _: 1) -> None:
    """`change` gets a record, and returns what to write instead, so many times; None for nothing."""
    told = Ndjson.sighting

    def sighting(self: Ndjson, place: Place, sighting: Sighting) -> str:
        record = json.loads(told(self, place, sighting))
        changed = change(record)
        return "" if changed is None else (json.dumps(changed) + "\n") * times(record)

    Ndjson.sighting = sighting  # type: ignore[method-assign]


def _mutant(
    name: str,
    defect: str,
    breaks: dict[str, str],
    change: Callable[[Record], Record | None] = lambda record: record,
    *,
    times: Callable[[Record], int] = lambda _: 1,
) -> Mutant:
    return Mutant(name, defect, breaks, lambda: _retell(change, times=times))


def _messages(record: Record, change: Callable[[Record], Record]) -> Record:
    both = {which: record[which] and change(record[which]) for which in ("request", "response")}
    return record | both


# -- what was said ---------------------------------------------------------------------------------------------------


def _answers_shifted() -> Callable[[Record], Record]:
    before: list[Any] = [None]

    def shifted(record: Record) -> Record:
        before.append(record["response"])
        return record | {"response": before.pop(0) or record["response"]}

    return shifted


ANSWER_BEFORE = _mutant(
    "answer-before",
    "It shows each request with the answer of the exchange before, of whatever pod that was.",
    {"NETNS-06": "with its own answer"},
    _answers_shifted(),
)
NO_QUERY = _mutant(
    "no-query",
    "It cuts a target at its question mark.",
    {"HTTP-15": r"q=a%20b"},
    lambda record: record | {"target": (record["target"] or "").partition("?")[0]},
)
UNESCAPED = _mutant(
    "unescaped",
    "It decodes the escapes of a target.",
    {"HTTP-15": r"q=a%20b"},
    lambda record: record | {"target": unquote(record["target"] or "")},
)
USUAL_METHODS = _mutant(
    "usual-methods",
    "It takes five methods for all there are.",
    {"HTTP-15": "not at all"},
    lambda record: record if record["method"] in {*_USUAL_METHODS, None} else None,
)
NO_FAILURES = _mutant(
    "no-failures",
    "It reports no exchange that a server failed in.",
    {"HTTP-15": "not at all"},
    lambda record: None if (record["status"] or 0) >= 500 else record,
)
LOWER_CASE = _mutant(
    "lower-case",
    "It writes values of header fields in lower case, as their names.",
    {"HTTP-14": "x-several"},
    lambda record: _messages(
        record, lambda message: message | {"headers": [[name, value.lower()] for name, value in message["headers"]]}
    ),
)
NO_CHUNK_TRAILERS = _mutant(
    "no-chunk-trailers",
    "It throws away what stands behind the last chunk.",
    {"HTTP-19": "the trailer X-Sum"},
    lambda record: _messages(record, lambda message: message | {"trailers": []}),
)
ANSWERED_ONLY = _mutant(
    "answered-only",
    "It reports pairs, and nothing of a request that stays without an answer.",
    {"HTTP-18": "not at all"},
    lambda record: record if record["response"] else None,
)

GIVES_UP_SOON = _mutant(
    "gives-up-soon",
    "It waits for an answer for one second.",
    {"HTTP-21": "answered with 203"},
    lambda record: record | {"status": None, "response": None} if (record["duration_s"] or 0) > 1 else record,
)

# -- where and when --------------------------------------------------------------------------------------------------

NO_BRACKETS = _mutant(
    "no-brackets",
    "It puts a colon and the port behind an IPv6 address, as if that had no colons.",
    {"CAP-10": r"from \[::6\]"},
    lambda record: record | {end: record[end].replace("[", "").replace("]", "") for end in ("src", "dst")},
)
USUAL_PORTS = _mutant(
    "usual-ports",
    "It has a list of ports on which HTTP is spoken.",
    {"CAP-01": "not at all"},
    lambda record: record if record["dst"].rpartition(":")[2] in _USUAL_PORTS else None,
)
MILLISECONDS = _mutant(
    "milliseconds",
    "It gives times in milliseconds.",
    {"CAP-13": "a time within"},
    lambda record: record | {"ts": record["ts"] * 1000},
)
TIME_OF_THE_ANSWER = _mutant(
    "time-of-the-answer",
    "It gives an exchange the time at which it was over.",
    {"CAP-13": "s too late"},
    lambda record: record | {"ts": record["ts"] + (record["duration_s"] or 0)},
)


def _pods_by_name() -> Callable[[Record], Record]:
    known: dict[str, str] = {}

    def named(record: Record) -> Record:
        name = record.get("pod", {}).get("name", "")
        return record | {"pod_ip": known.setdefault(name, record["pod_ip"])}

    return named


BY_NAME = _mutant(
    "by-name",
    "It knows pods by their names, whatever namespace they are of.",
    {"NETNS-09": 'inbound at not pod "second"'},
    _pods_by_name(),
)

# -- how often -------------------------------------------------------------------------------------------------------


def _once_in_a_pod() -> Callable[[Record], Record | None]:
    told: set[tuple[object, ...]] = set()

    def unless_told(record: Record) -> Record | None:
        key = tuple(record[name] for name in ("pod_ip", "direction", "method", "target"))
        fresh = key not in told
        told.add(key)
        return record if fresh else None

    return unless_told


ONCE_IN_A_POD = _mutant(
    "once-in-a-pod",
    "In one pod it takes a second request of the same line for a copy of the first.",
    {"CAP-12": "seen: 1 times"},
    _once_in_a_pod(),
)
TWICE_IN_IPV6 = _mutant(
    "twice-in-ipv6",
    "It drops the second copy of a frame on lo for IPv4 only.",
    {"CAP-10": "too often"},
    times=lambda record: 2 if record["src"].startswith("[") else 1,
)
TWICE_OUTBOUND = _mutant(
    "twice-outbound",
    "It reports either half of a redirected connection as an exchange.",
    {"CAP-02": "too often"},
    times=lambda record: 2 if record["direction"] == "outbound" else 1,
)


def _is_chunked(record: Record) -> bool:
    fields = (record["response"] or {"headers": []})["headers"]
    return any(name.lower() == "transfer-encoding" for name, _ in fields)


TWICE_CHUNKED = _mutant(
    "twice-chunked",
    "It reports an exchange again when the last chunk of its answer comes.",
    {"HTTP-02": "too often"},
    times=lambda record: 2 if _is_chunked(record) else 1,
)
