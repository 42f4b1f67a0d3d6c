"""Broken in reading what applications encrypt themselves: filters over records and targets, and a breakpoint.

The defects are those of tools that there are: docs/tls.md says whose.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

from harness.conformance.mutants import node
from harness.conformance.mutants.model import Fault, Mutant, TargetsDocument, Tell
from harness.conformance.mutants.reasons import ANOTHERS_ANSWER, CUT_IN_SILENCE, LOST, TOO_MUCH, TOO_OFTEN
from harness.conformance.mutants.streams import Record, RecordFilter, both_messages, repeated

_BUFFER = 8192
_MOST_PODS = 8
_BREAKPOINT = b"\xcc"  # int3 (x86-64); on other machines another byte will do
_LIBRARY = "/own-library-"


def _is_own_tls(record: Record) -> bool:
    return record["type"] == "http" and "plaintext" in record


def _own_tls(keeps: RecordFilter) -> RecordFilter:
    """Over what applications encrypted themselves alone: `keeps` gets and yields such records one by one."""

    def changed(records: Iterator[Record]) -> Iterator[Record]:
        waiting: list[Record] = []

        def theirs() -> Iterator[Record]:
            for record in records:
                if _is_own_tls(record):
                    yield record
                else:
                    waiting.append(record)

        for record in keeps(theirs()):
            yield from waiting
            waiting.clear()
            yield record
        yield from waiting

    return changed


def _only_servers(records: Iterator[Record]) -> Iterator[Record]:
    return (record for record in records if record["direction"] != "outbound")


ONLY_SERVERS = Mutant(
    "own-tls-only-servers",
    "It knows SSL_read and SSL_write only of the process that accepted the connection.",
    {"TLS-01": LOST},
    Fault(records=(_own_tls(_only_servers),)),
)


def _only_http1(records: Iterator[Record]) -> Iterator[Record]:
    return (record for record in records if record["version"] != "HTTP/2")


ONLY_HTTP1 = Mutant(
    "own-tls-only-http1",
    "It takes each write for a message of HTTP/1.1.",
    {"TLS-01": LOST},
    Fault(records=(_own_tls(_only_http1),)),
)


def _with_all_pods(documents: Iterator[TargetsDocument], _: Tell) -> Iterator[TargetsDocument]:
    for document in documents:
        others = [
            {"uid": f"uid-{number}", "namespace": "default", "name": f"pod-{number}", "ips": [f"10.244.0.{number}"]}
            for number in range(2, 2 + _MOST_PODS)
        ]
        yield document | {"pods": [*document["pods"], *others]}


ALL_PROCESSES = Mutant(
    "own-tls-all-processes",
    "It reads every process that has mapped the file of the library.",
    {"TLS-02": f"{TOO_MUCH}|{TOO_OFTEN}"},
    Fault(targets=(_with_all_pods,)),
)


def _cut_in_silence(record: Record) -> Record:
    def cut(message: Record) -> Record:
        body = base64.b64decode(message["body_b64"])[:_BUFFER]
        return message | {"body_b64": base64.b64encode(body).decode(), "truncated": False}

    return both_messages(record, cut)


def _a_buffer_of_each(records: Iterator[Record]) -> Iterator[Record]:
    return map(_cut_in_silence, records)


A_BUFFER = Mutant(
    "own-tls-a-buffer",
    "It takes 8,192 bytes of each write, and does not say that there were more.",
    {"TLS-03": CUT_IN_SILENCE},
    Fault(records=(_own_tls(_a_buffer_of_each),)),
)


def _without_ends(records: Iterator[Record]) -> Iterator[Record]:
    return (record | {"src": "0.0.0.0:0", "dst": "0.0.0.0:0"} for record in records)


NO_ENDS = Mutant(
    "own-tls-no-ends",
    "It does not know the socket, and so reports ends of 0.0.0.0:0.",
    {"TLS-04": r"from 10\.244\.0\."},
    Fault(records=(_own_tls(_without_ends),)),
)


def _has_a_long_request(record: Record) -> int:
    long = _is_own_tls(record) and record["request"] and record["request"]["body_size"] > _BUFFER
    return 2 if long else 1


RETRIES_COUNTED = Mutant(
    "own-tls-retries-counted",
    "It takes the bytes when SSL_write is called, and so takes them again when the call is made again.",
    {"TLS-05": TOO_OFTEN},
    Fault(records=(repeated(_has_a_long_request),)),
)


def _response_before(records: Iterator[Record]) -> Iterator[Record]:
    """A lost request shifts all later pairs."""
    before: dict[str, object] = {}
    for record in records:
        own = {"status": record["status"], "response": record["response"]}
        yield record | before
        before = own


SHIFTED = Mutant(
    "own-tls-shifted",
    "It goes on after a loss as if nothing had been lost.",
    {"TLS-06": ANOTHERS_ANSWER},
    Fault(records=(_own_tls(_response_before),)),
)


def _nothing_lost(records: Iterator[Record]) -> Iterator[Record]:
    for record in records:
        yield record | {"dropped": 0} if "dropped" in record else record


LOSES_IN_SILENCE = Mutant(
    "own-tls-loses-in-silence",
    "It does not count the plaintext that found no room in its buffer.",
    {"TLS-06": "drops told"},
    Fault(records=(_nothing_lost,)),
)


def _without_unreadable(records: Iterator[Record]) -> Iterator[Record]:
    return (record for record in records if record["type"] != "unreadable")


NAMES_NOTHING = Mutant(
    "own-tls-names-nothing",
    "It has no word for a process whose TLS it cannot read.",
    {"TLS-08": "whose TLS library has no symbols"},
    Fault(records=(_without_unreadable,), silent=True),
)


def _with_the_ends_before(records: Iterator[Record]) -> Iterator[Record]:
    """By the address of the library's object alone: the first connection's ends stay."""
    first: dict[object, str] = {}
    for record in records:
        yield record | {"src": first.setdefault((record["pod_ip"], record["dst"]), record["src"])}


BY_OBJECT = Mutant(
    "own-tls-by-object",
    "It knows a connection by the address of the library's object, which the next connection gets, too.",
    {"TLS-09": r"from 10\.244\.0\."},
    Fault(records=(_own_tls(_with_the_ends_before),)),
)


def _leave_breakpoints() -> None:
    """Write one into each process that has mapped the case's library: into the last byte of its instructions, where no
    function is."""
    for folder in node.procfs().glob("[0-9]*"):
        try:
            lines = [
                line for line in (folder / "maps").read_text().splitlines() if _LIBRARY in line and " r-xp " in line
            ]
            for line in lines:
                end = int(line.partition(" ")[0].partition("-")[2], 16)
                with Path(folder / "mem").open("r+b", buffering=0) as memory:
                    memory.seek(end - 1)
                    memory.write(_BREAKPOINT)
        except OSError:
            continue  # the process has ended


LEAVES_BREAKPOINT = Mutant(
    "own-tls-leaves-breakpoint",
    "It does not take its breakpoints back when it ends.",
    {"TLS-10": "other bytes"},
    Fault(begin=(_leave_breakpoints,)),
)
