"""Broken in network namespaces: programs that stay in them or keep them, and filters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from harness.conformance.mutants import node
from harness.conformance.mutants.model import Fault, Mutant
from harness.conformance.mutants.packets import RawPacket
from harness.conformance.mutants.reasons import ITS_END, LET_GO, THREAD_INSIDE, TOO_OFTEN
from harness.conformance.mutants.streams import Record, repeated

_POD = " lo"  # how the reference names a pod's interface: its address, and this


def _sources_of_its_namespace(record: Record) -> int:
    """The Envoy processes in the namespace that a record is of; one for a record of the node."""
    processes = Counter(each.netns for each in node.envoys())
    return max(1, processes[record["netns"]]) if record["direction"] != "node" else 1


BY_PID = Mutant(
    "by-pid",
    "It opens a source for every Envoy process, so that two in one namespace are captured twice.",
    {"NETNS-02": TOO_OFTEN},
    Fault(records=(repeated(_sources_of_its_namespace),)),
)


def _stay_where_it_fails() -> None:
    """As a tapper that opens its sources at the start, each on a thread that is not brought back after an error."""
    for each in node.envoys():
        if each.address in node.target_addresses():
            node.capture_fails(each.pid, stay=True)


THREAD_LEFT = Mutant(
    "thread-left",
    "Its thread stays in the pod's namespace when the open fails after setns(2).",
    {"NETNS-03": f"{THREAD_INSIDE} in the namespace"},
    Fault(begin=(_stay_where_it_fails,)),
)


def _give_up() -> None:
    for each in node.envoys():
        if each.address in node.target_addresses() and node.capture_fails(each.pid, stay=False):
            raise SystemExit(1)


GIVES_UP = Mutant(
    "gives-up",
    "It ends when it cannot capture in one of its targets.",
    {"NETNS-07": ITS_END},
    Fault(begin=(_give_up,)),
)


def _keep_what_is_opened(records: Iterator[Record]) -> Iterator[Record]:
    for record in records:
        if (pid := node.opened_in_pod(record)) is not None:
            node.keep_namespace(pid)
        yield record


PINNED = Mutant(
    "pinned",
    "It never closes the file of a namespace that it has entered.",
    {"NETNS-04": LET_GO},
    Fault(records=(_keep_what_is_opened,)),
)


def _keep_what_is_removed(records: Iterator[Record]) -> Iterator[Record]:
    for record in records:
        if (pid := node.closed_in_pod(record)) is not None:
            node.keep_namespace(pid)
        yield record


def _stay_with_what_is_removed(records: Iterator[Record]) -> Iterator[Record]:
    for record in records:
        if (pid := node.closed_in_pod(record)) is not None and node.is_running(pid):
            node.in_namespace(pid, lambda: None, stay=lambda: True)
        yield record


PINS_REMOVED = Mutant(
    "pins-removed",
    "It keeps the file of the namespace of a target that is removed.",
    {"NETNS-08": LET_GO},
    Fault(records=(_keep_what_is_removed,)),
)
STAYS_WITH_REMOVED = Mutant(
    "stays-with-removed",
    "A thread of it stays in the namespace of a target that is removed.",
    {"NETNS-08": THREAD_INSIDE},
    Fault(records=(_stay_with_what_is_removed,)),
)


def _one_interface(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
    """The packets of all pods as if they were the first one's."""
    first: str | None = None
    for packet in packets:
        if packet.interface.endswith(_POD):
            first = first or packet.interface
            yield replace(packet, interface=first)
        else:
            yield packet


ONE_ASSEMBLER = Mutant(
    "one-assembler",
    "It puts the connections of all pods together by their addresses alone.",
    {"NETNS-06": 'inbound at pod "second"|each of 10 requests'},
    Fault(packets=(_one_interface,)),
)
READS_PROC = Mutant(
    "reads-proc",
    "It reads /proc, whatever procfs it is given.",
    {"DISC-06": "nothing of what it was not asked for"},
    Fault(environ={"TAPPER_HARNESS_PROCFS": "/proc"}),
)
