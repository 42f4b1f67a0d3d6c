"""Broken in what is told of an exchange: filters over records."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote

from harness.conformance.mutants.http import is_chunked
from harness.conformance.mutants.model import Fault, Mutant
from harness.conformance.mutants.reasons import LOST, TOO_OFTEN
from harness.conformance.mutants.streams import Record, RecordFilter, both_messages, each, repeated

_USUAL_METHODS = {"GET", "POST", "PUT", "DELETE", "HEAD"}
_USUAL_PORTS = {"80", "443", "8080", "18080"}


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
    each(lambda record: record | {"target": (record["target"] or "").partition("?")[0]}),
)
UNESCAPED = _mutant(
    "unescaped",
    "It decodes the escapes of a target.",
    {"HTTP-15": r"q=a%20b"},
    each(lambda record: record | {"target": unquote(record["target"] or "")}),
)
USUAL_METHODS = _mutant(
    "usual-methods",
    "It takes five methods for all there are.",
    {"HTTP-15": LOST},
    each(lambda record: record if record["method"] in {*_USUAL_METHODS, None} else None),
)
NO_FAILURES = _mutant(
    "no-failures",
    "It reports no exchange that a server failed in.",
    {"HTTP-15": LOST},
    each(lambda record: None if (record["status"] or 0) >= 500 else record),
)


def _lower_values(message: Record) -> Record:
    return message | {"headers": [[name, value.lower()] for name, value in message["headers"]]}


LOWER_CASE = _mutant(
    "lower-case",
    "It writes values of header fields in lower case, as their names.",
    {"HTTP-14": "x-several"},
    each(lambda record: both_messages(record, _lower_values)),
)
NO_CHUNK_TRAILERS = _mutant(
    "no-chunk-trailers",
    "It throws away what stands behind the last chunk.",
    {"HTTP-19": "the trailer X-Sum"},
    each(lambda record: both_messages(record, lambda message: message | {"trailers": []})),
)
ANSWERED_ONLY = _mutant(
    "answered-only",
    "It reports pairs, and nothing of a request that stays without an answer.",
    {"HTTP-18": LOST},
    each(lambda record: record if record["response"] else None),
)

GIVES_UP_SOON = _mutant(
    "gives-up-soon",
    "It waits for an answer for one second.",
    {"HTTP-21": "answered with 203"},
    each(lambda record: record | {"status": None, "response": None} if (record["duration_s"] or 0) > 1 else record),
)

# -- where and when --------------------------------------------------------------------------------------------------

NO_BRACKETS = _mutant(
    "no-brackets",
    "It puts a colon and the port behind an IPv6 address, as if that had no colons.",
    {"CAP-10": r"from \[::6\]"},
    each(lambda record: record | {end: record[end].replace("[", "").replace("]", "") for end in ("src", "dst")}),
)
USUAL_PORTS = _mutant(
    "usual-ports",
    "It has a list of ports on which HTTP is spoken.",
    {"CAP-01": LOST},
    each(lambda record: record if record["dst"].rpartition(":")[2] in _USUAL_PORTS else None),
)
MILLISECONDS = _mutant(
    "milliseconds",
    "It gives times in milliseconds.",
    {"CAP-13": "time within|ts within"},
    each(lambda record: record | {"ts": record["ts"] * 1000}),
)
TIME_OF_THE_ANSWER = _mutant(
    "time-of-the-answer",
    "It gives an exchange the time at which it was over.",
    {"CAP-13": "s too late"},
    each(lambda record: record | {"ts": record["ts"] + (record["duration_s"] or 0)}),
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


def _once_in_a_pod(records: Iterator[Record]) -> Iterator[Record]:
    told: set[tuple[object, ...]] = set()
    for record in records:
        if record["type"] == "http":
            key = tuple(record[name] for name in ("pod_ip", "direction", "method", "target"))
            if key in told:
                continue
            told.add(key)
        yield record


ONCE_IN_A_POD = _mutant(
    "once-in-a-pod",
    "In one pod it takes a second request of the same line for a copy of the first.",
    {"CAP-12": "seen: 1 times"},
    _once_in_a_pod,
)
TWICE_IN_IPV6 = _mutant(
    "twice-in-ipv6",
    "It drops the second copy of a frame on lo for IPv4 only.",
    {"CAP-10": TOO_OFTEN},
    repeated(lambda record: 2 if record["src"].startswith("[") else 1),
)
TWICE_OUTBOUND = _mutant(
    "twice-outbound",
    "It reports either half of a redirected connection as an exchange.",
    {"CAP-02": TOO_OFTEN},
    repeated(lambda record: 2 if record["direction"] == "outbound" else 1),
)


TWICE_CHUNKED = _mutant(
    "twice-chunked",
    "It reports an exchange again when the last chunk of its answer comes.",
    {"HTTP-02": TOO_OFTEN},
    repeated(lambda record: 2 if is_chunked(record) else 1),
)

# -- what the oracle compares ----------------------------------------------------------------------------------------


def _probe_invented(records: Iterator[Record]) -> Iterator[Record]:
    for record in records:
        yield record
        if record["type"] == "http" and record["target"] == "/healthz":
            yield record | {"target": "/livez"}


def _always_in(record: Record) -> Record:
    return record | ({"direction": "inbound"} if record["direction"] == "outbound" else {})


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
ALWAYS_IN = _mutant(
    "always-in",
    "It takes everything on a pod's lo for what comes in.",
    {"CAP-15": "expected GET .* outbound at"},
    each(_always_in),
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
    each(_one_version),
)
FIELDS_OF_THE_REQUEST = _mutant(
    "fields-of-the-request",
    "It shows the request's header fields with the answer's.",
    {"HTTP-22": "expected response.headers"},
    each(_fields_of_the_request),
)
