"""Broken only in conversations that nobody arranged, or in the long run: filters over the reference's records.

The docstring of each filter says what is wrong with the tapper. None is seen by a case that plays few exchanges of one
kind.
"""

from __future__ import annotations

import base64
import os
from collections import Counter
from collections.abc import Iterator, Mapping

from harness.conformance.mutants.model import Fault, Mutant, MutantEndsError
from harness.conformance.mutants.streams import Record, RecordFilter

_KEPT = 16 << 10
_PODS_IT_KNOWS = 3
_MOST_KEPT = 500


def _messages(record: Record) -> list[Record]:
    if record["type"] != "http":
        return []
    return [message for message in (record["request"], record["response"]) if message is not None]


def headers_mixed_up(records: Iterator[Record]) -> Iterator[Record]:
    """From a connection's fifth stream on it shows the request's fields for the answer's."""
    streams: Counter[str] = Counter()
    for record in records:
        if record["type"] == "http" and record["version"] == "HTTP/2" and record["response"] and record["request"]:
            streams[record["src"]] += 1
            if streams[record["src"]] > 4:
                record["response"]["headers"] = record["request"]["headers"]
        yield record


def chunks_cut_in_silence(records: Iterator[Record]) -> Iterator[Record]:
    """It keeps 16 KiB of a body that comes in chunks, and does not say so."""
    for record in records:
        for message in _messages(record):
            body = base64.b64decode(message["body_b64"])
            if len(body) > _KEPT and any(name.lower() == "transfer-encoding" for name, _ in message["headers"]):
                message["body_b64"] = base64.b64encode(body[:_KEPT]).decode()
        yield record


def cookies_merged(records: Iterator[Record]) -> Iterator[Record]:
    """It joins several Set-Cookie fields into one, in which nobody can tell them apart (RFC 9110, section 5.3)."""
    for record in records:
        for message in _messages(record):
            cookies = [value for name, value in message["headers"] if name.lower() == "set-cookie"]
            if len(cookies) > 1:
                others = [pair for pair in message["headers"] if pair[0].lower() != "set-cookie"]
                message["headers"] = [*others, ["Set-Cookie", ", ".join(cookies)]]
        yield record


def fourth_pod_mistaken(records: Iterator[Record]) -> Iterator[Record]:
    """It knows three pods, and takes any other for the first."""
    known: list[str] = []
    for record in records:
        pod = record.get("pod_ip")
        if record["type"] == "http" and pod:
            if pod not in known:
                known.append(pod)
            if known.index(pod) >= _PODS_IT_KNOWS:
                record["pod_ip"] = known[0]
        yield record


def unanswered_over_ipv6(records: Iterator[Record]) -> Iterator[Record]:
    """Over IPv6 it finds no answer to a request that has a body."""
    for record in records:
        if record["type"] == "http" and record["src"].startswith("[") and (record["request"] or {}).get("body_size"):
            record |= {"status": None, "response": None, "duration_s": None}
        yield record


def twice_after_a_hundred(records: Iterator[Record]) -> Iterator[Record]:
    """After a hundred exchanges it reports each twice."""
    seen = 0
    for record in records:
        yield record
        if record["type"] == "http":
            seen += 1
            if seen > 100:
                yield record


def calls_without_status(records: Iterator[Record]) -> Iterator[Record]:
    """It takes a call that has several messages for one that succeeded."""
    for record in records:
        call = record.get("grpc")
        if call and call["responses"]["count"] > 1:
            call["status"] = 0
            response = record["response"]
            response["trailers"] = [pair for pair in response["trailers"] if pair[0] != "grpc-status"]
        yield record


def binary_messages_lost(records: Iterator[Record]) -> Iterator[Record]:
    """It drops a WebSocket's binary messages."""
    for record in records:
        if record["type"] != "websocket" or record.get("opcode") != 2:
            yield record


def tenth_lost(records: Iterator[Record]) -> Iterator[Record]:
    """It loses each tenth exchange of a connection."""
    seen: Counter[str] = Counter()
    for record in records:
        if record["type"] == "http":
            seen[record["src"]] += 1
            if seen[record["src"]] % 10 == 0:
                continue
        yield record


def twice_after_an_envoy(records: Iterator[Record]) -> Iterator[Record]:
    """When it has opened a pod's namespace again it goes on with the old source, too."""
    opened: Counter[object] = Counter()
    for record in records:
        yield record
        if record["type"] == "source" and record["state"] == "open":
            opened[record["netns"]] += 1
        elif record["type"] == "http" and opened[record["netns"]] > 1:
            yield record


def slashes_merged(records: Iterator[Record]) -> Iterator[Record]:
    """It tidies targets up."""
    for record in records:
        if record["type"] == "http" and record["target"]:
            record["target"] = record["target"].replace("//", "/")
        yield record


def long_values_cut(records: Iterator[Record]) -> Iterator[Record]:
    """It keeps 1,000 characters of a field's value."""
    for record in records:
        for message in _messages(record):
            message["headers"] = [[name, value[:1000]] for name, value in message["headers"]]
        yield record


def memory_kept(records: Iterator[Record]) -> Iterator[Record]:
    """It keeps 256 KiB for each exchange."""
    kept = []
    for record in records:
        if record["type"] == "http":
            kept.append(b"x" * (256 << 10))
        yield record


def descriptors_kept(records: Iterator[Record]) -> Iterator[Record]:
    """It keeps a descriptor for each connection, up to 500."""
    kept: dict[str, int] = {}
    for record in records:
        if record["type"] == "http" and record["src"] not in kept and len(kept) < _MOST_KEPT:
            kept[record["src"]] = os.open(os.devnull, os.O_RDONLY)
        yield record


def ends_late(records: Iterator[Record]) -> Iterator[Record]:
    """It ends by itself after 300 exchanges."""
    seen = 0
    for record in records:
        yield record
        seen += record["type"] == "http"
        if seen > 300:
            raise MutantEndsError("three hundred are enough")


def lost_in_the_long_run(records: Iterator[Record]) -> Iterator[Record]:
    """After a thousand exchanges it loses one of a hundred."""
    seen = 0
    for record in records:
        if record["type"] == "http":
            seen += 1
            if seen > 1000 and seen % 100 == 0:
                continue
        yield record


def trailers_lost_on_the_way_out(records: Iterator[Record]) -> Iterator[Record]:
    """It says of answers over IPv6 that leave a pod that they had no trailers."""
    for record in records:
        sixth = record["type"] == "http" and str(record.get("src")).startswith("[")
        if sixth and record.get("direction") == "outbound" and record.get("response"):
            yield record | {"response": record["response"] | {"trailers": []}}
        else:
            yield record


def _mutant(change: RecordFilter, breaks: Mapping[str, str]) -> Mutant:
    return Mutant(change.__name__.replace("_", "-"), change.__doc__ or "", breaks, Fault(records=(change,)))


HEADERS_MIXED_UP = _mutant(headers_mixed_up, {"GEN-02": "response.headers"})
CHUNKS_CUT_IN_SILENCE = _mutant(chunks_cut_in_silence, {"GEN-01": r"body of \d+ bytes, or said to be cut"})
COOKIES_MERGED = _mutant(cookies_merged, {"GEN-01": "set-cookie"})
FOURTH_POD_MISTAKEN = _mutant(fourth_pod_mistaken, {"GEN-06": "pod_ip"})
UNANSWERED_OVER_IPV6 = _mutant(unanswered_over_ipv6, {"GEN-08": "its own answer"})
TRAILERS_LOST_ON_THE_WAY_OUT = _mutant(trailers_lost_on_the_way_out, {"GEN-09": "response.trailers"})
TWICE_AFTER_A_HUNDRED = _mutant(twice_after_a_hundred, {"GEN-06": "one record of it"})
CALLS_WITHOUT_STATUS = _mutant(calls_without_status, {"GEN-03": "grpc"})
BINARY_MESSAGES_LOST = _mutant(binary_messages_lost, {"GEN-04": "message"})
TENTH_LOST = _mutant(tenth_lost, {"GEN-05": "a record of it", "GEN-06": "a record of it"})
TWICE_AFTER_AN_ENVOY = _mutant(twice_after_an_envoy, {"GEN-07": "one record of it"})
SLASHES_MERGED = _mutant(slashes_merged, {"GEN-01": "target"})
LONG_VALUES_CUT = _mutant(long_values_cut, {"GEN-01": "headers"})
MEMORY_KEPT = _mutant(memory_kept, {"LOAD-05": "memory that does not grow"})
DESCRIPTORS_KEPT = _mutant(descriptors_kept, {"LOAD-05": "descriptors that does not grow"})
ENDS_LATE = _mutant(ends_late, {"LOAD-05": "its end"})
LOST_IN_THE_LONG_RUN = _mutant(lost_in_the_long_run, {"LOAD-06": "not at all"})
