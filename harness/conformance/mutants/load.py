"""Broken by much of everything, or in the long run: filters over records and packets."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from collections.abc import Iterator, Mapping

from harness.conformance.mutants.model import Fault, Mutant, MutantEndsError
from harness.conformance.mutants.packets import FIN, RST, SYN, End, RawPacket, tcp
from harness.conformance.mutants.reasons import ITS_END, LOST
from harness.conformance.mutants.streams import Record, RecordFilter

_MOST_CONNECTIONS = 500
_MOST_KEPT = 500
_TOO_MANY_DROPS = 10**9
_MUCH = 1 << 20
_PIPE_HELD = 16 << 10


def _hide_drops(records: Iterator[Record]) -> Iterator[Record]:
    for record in records:
        yield record | {"dropped": 0} if "dropped" in record else record


NO_DROPS = Mutant(
    "hides-drops",
    "It never tells what the kernel dropped.",
    {"LOAD-01": "seen: 0", "LOAD-07": "seen: 0"},
    Fault(records=(_hide_drops,)),
)


def _count_too_much(records: Iterator[Record]) -> Iterator[Record]:
    for record in records:
        yield record | {"dropped": _TOO_MANY_DROPS} if record["type"] == "bye" else record


COUNTS_TOO_MUCH = Mutant(
    "counts-too-much",
    "It tells of more drops than there can have been.",
    {"LOAD-01": "no more drops told"},
    Fault(records=(_count_too_much,)),
)


def _few_connections(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
    """One more pushes out the oldest."""
    followed: dict[frozenset[End], None] = {}
    for packet in packets:
        segment = tcp(packet)
        if segment is not None:
            if segment.flags & SYN:
                followed[segment.connection] = None
            if segment.connection not in followed:
                continue
            if segment.flags & (FIN | RST):
                del followed[segment.connection]
            if len(followed) > _MOST_CONNECTIONS:
                del followed[next(iter(followed))]
        yield packet


FEW_CONNECTIONS = Mutant(
    "few-connections",
    "It follows five hundred connections at a time, as mizu does.",
    {"LOAD-04": f"{LOST}|with its answer"},
    Fault(packets=(_few_connections,)),
)


def _never_wait() -> None:
    os.set_blocking(1, False)


ENDS_WHEN_UNREAD = Mutant(
    "ends-when-unread",
    "A write that would have to wait is an error that nobody has thought of.",
    {"LOAD-07": ITS_END},
    Fault(begin=(_never_wait,)),
)


def _leave_out_what_has_to_wait(records: Iterator[Record]) -> Iterator[Record]:
    """Also the counts of exchanges, which would tell what is missing."""
    for record in records:
        if record["type"] != "http":
            yield {name: value for name, value in record.items() if name not in ("exchanges", "incomplete")}
        elif struct.unpack("i", fcntl.ioctl(1, termios.FIONREAD, bytes(4)))[0] <= _PIPE_HELD:
            yield record


FORGETS_WHEN_UNREAD = Mutant(
    "forgets-when-unread",
    "It leaves out every record while 16 KiB of its output are unread.",
    {"LOAD-07": LOST},
    Fault(records=(_leave_out_what_has_to_wait,)),
)


def _one_pod_at_a_time(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
    """Once a connection has carried much, packets of other pods wait for its end."""
    carried: dict[frozenset[End], int] = {}
    busy: tuple[str, frozenset[End]] | None = None
    waiting: list[RawPacket] = []
    for packet in packets:
        segment = tcp(packet)
        if busy is not None and packet.interface != busy[0]:
            waiting.append(packet)
            continue
        yield packet
        if segment is not None:
            carried[segment.connection] = carried.get(segment.connection, 0) + len(segment.payload)
            if busy is None and carried[segment.connection] > _MUCH:
                busy = packet.interface, segment.connection
            elif busy is not None and segment.connection == busy[1] and segment.flags & (FIN | RST):
                yield from waiting
                waiting, busy = [], None
    yield from waiting


ONE_POD_AT_A_TIME = Mutant(
    "one-pod-at-a-time",
    "It reads what one pod has for it to its end before it turns to another.",
    {"LOAD-08": "5 requests, the first being"},
    Fault(packets=(_one_pod_at_a_time,)),
)


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


def _mutant(change: RecordFilter, breaks: Mapping[str, str]) -> Mutant:
    return Mutant(change.__name__.replace("_", "-"), change.__doc__ or "", breaks, Fault(records=(change,)))


MEMORY_KEPT = _mutant(memory_kept, {"LOAD-05": "memory that does not grow"})
DESCRIPTORS_KEPT = _mutant(descriptors_kept, {"LOAD-05": "descriptors that does not grow"})
ENDS_LATE = _mutant(ends_late, {"LOAD-05": "its end"})
LOST_IN_THE_LONG_RUN = _mutant(lost_in_the_long_run, {"LOAD-06": "not at all"})
