"""Broken in what is told of an exchange: filters over records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import unquote

from harness.conformance.mutants.model import Fault, Mutant
from harness.conformance.mutants.reasons import LOST
from harness.conformance.mutants.streams import Record, RecordFilter, both_messages, over_exchanges

_USUAL_METHODS = {"GET", "POST", "PUT", "DELETE", "HEAD"}


def _mutant(name: str, defect: str, breaks: dict[str, str], change: RecordFilter) -> Mutant:
    return Mutant(name, defect, breaks, Fault(records=(change,)))


# -- what was said ---------------------------------------------------------------------------------------------------


def _answers_shifted(records: Iterator[Record]) -> Iterator[Record]:
    before = None
    for record in records:
        if record["type"] != "http":
            yield record
            continue
        yield record | {"response": before or record["response"]}
        before = record["response"]


ANSWER_BEFORE = _mutant(
    "answer-before",
    "It shows each request with the answer of the exchange before, of whatever pod that was.",
    {"NETNS-06": "with its own answer"},
    _answers_shifted,
)
NO_QUERY = _mutant(
    "no-query",
    "It cuts a target at its question mark.",
    {"HTTP-15": r"q=a%20b"},
    over_exchanges(lambda record: record | {"target": (record["target"] or "").partition("?")[0]}),
)
UNESCAPED = _mutant(
    "unescaped",
    "It decodes the escapes of a target.",
    {"HTTP-15": r"q=a%20b"},
    over_exchanges(lambda record: record | {"target": unquote(record["target"] or "")}),
)
USUAL_METHODS = _mutant(
    "usual-methods",
    "It takes five methods for all there are.",
    {"HTTP-15": LOST},
    over_exchanges(lambda record: record if record["method"] in {*_USUAL_METHODS, None} else None),
)


def _lower_values(message: Record) -> Record:
    return message | {"headers": [[name, value.lower()] for name, value in message["headers"]]}


LOWER_CASE = _mutant(
    "lower-case",
    "It writes values of header fields in lower case, as their names.",
    {"HTTP-14": "x-several"},
    over_exchanges(lambda record: both_messages(record, _lower_values)),
)


# -- where and when --------------------------------------------------------------------------------------------------

NO_BRACKETS = _mutant(
    "no-brackets",
    "It puts a colon and the port behind an IPv6 address, as if that had no colons.",
    {"CAP-10": r"from \[::6\]"},
    over_exchanges(
        lambda record: record | {end: record[end].replace("[", "").replace("]", "") for end in ("src", "dst")}
    ),
)
MILLISECONDS = _mutant(
    "milliseconds",
    "It gives times in milliseconds.",
    {"CAP-13": "time within|ts within"},
    over_exchanges(lambda record: record | {"ts": record["ts"] * 1000}),
)
TIME_OF_THE_ANSWER = _mutant(
    "time-of-the-answer",
    "It gives an exchange the time at which it was over.",
    {"CAP-13": "s too late"},
    over_exchanges(lambda record: record | {"ts": record["ts"] + (record["duration_s"] or 0)}),
)


def _pods_by_name(records: Iterator[Record]) -> Iterator[Record]:
    known: dict[str, str] = {}
    for record in records:
        if record["type"] == "http":
            name = record.get("pod", {}).get("name", "")
            record = record | {"pod_ip": known.setdefault(name, record["pod_ip"])}  # noqa: PLW2901
        yield record


BY_NAME = _mutant(
    "by-name",
    "It knows pods by their names, whatever namespace they are of.",
    {"NETNS-09": 'inbound at not pod "second"'},
    _pods_by_name,
)

# -- how often -------------------------------------------------------------------------------------------------------


def _once_for_each(key: Callable[[Record], object]) -> RecordFilter:
    """Leaves out each exchange whose key was there before."""

    def changed(records: Iterator[Record]) -> Iterator[Record]:
        seen: set[object] = set()
        for record in records:
            if record["type"] != "http" or key(record) not in seen:
                yield record
            if record["type"] == "http":
                seen.add(key(record))

    return changed


ONCE_IN_A_POD = _mutant(
    "once-in-a-pod",
    "In one pod it takes a second request of the same line for a copy of the first.",
    {"CAP-12": "seen: 1 times"},
    _once_for_each(lambda record: tuple(record[name] for name in ("pod_ip", "direction", "method", "target"))),
)
ONCE_BY_CONTENT = _mutant(
    "once-by-content",
    "It takes a second request of the same line for a copy of the first.",
    {"CAP-09": LOST, "EDGE-04": LOST},
    _once_for_each(lambda record: (record["method"], record["target"])),
)

# -- what the oracle compares ----------------------------------------------------------------------------------------


def _probe_invented(records: Iterator[Record]) -> Iterator[Record]:
    for record in records:
        yield record
        if record["type"] == "http" and record["target"] == "/healthz":
            yield record | {"target": "/livez"}


def _last_pod(records: Iterator[Record]) -> Iterator[Record]:
    """Names the pod that was captured in last."""
    last = None
    for record in records:
        if record["type"] == "source" and record["state"] == "open" and record["kind"] == "pod":
            last = record["instance_ip"]
        yield record | ({"pod_ip": last} if record["type"] == "http" and last else {})


def _one_version(record: Record) -> Record:
    return record | ({"version": "HTTP/1.1"} if record["version"] == "HTTP/1.0" else {})


def _fields_of_the_request(record: Record) -> Record:
    asked, answered = record["request"], record["response"]
    if asked is None or answered is None:
        return record
    known = {name.lower() for name, _ in answered["headers"]}
    others = [field for field in asked["headers"] if field[0].lower() not in known]
    return record | {"response": answered | {"headers": [*answered["headers"], *others]}}


INVENTS_PROBES = _mutant(
    "invents-probes",
    "It tells of a second probe with each one that it sees.",
    {"CAP-14": "no record of what did not happen"},
    _probe_invented,
)
LAST_POD = _mutant(
    "last-pod",
    "It names the pod that it looked into last, whatever pod an exchange was seen in.",
    {"CAP-16": 'at pod "(first|second|third|fourth)"'},
    _last_pod,
)
ONE_VERSION = _mutant(
    "one-version",
    "It knows no version of HTTP/1 but HTTP/1.1.",
    {"CAP-17": "expected version HTTP/1.0"},
    over_exchanges(_one_version),
)
FIELDS_OF_THE_REQUEST = _mutant(
    "fields-of-the-request",
    "It shows the request's header fields with the answer's.",
    {"HTTP-22": "expected response.headers"},
    over_exchanges(_fields_of_the_request),
)
